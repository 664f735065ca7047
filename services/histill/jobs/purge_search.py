"""Searches S3 and Redis for what still mentions something that was removed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.core.audit import FOLDER as AUDIT
from histill.core.errors import CorruptArtifactError, NotFoundError
from histill.core.projects import DEFAULT
from histill.core.projects import FOLDER as PROJECTS
from histill.jobs.purge_subject import FOLDER as NOTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.core.job_store import JobStore
    from histill.core.ports import Mention, ObjectStore, Traces

# What text is written to; arrays and images tell nothing by words.
_TEXT = (".json", ".jsonl", ".html", ".md")
_ALIAS = re.compile(r"(^|/)models/[^/]+/aliases/[^/]+$")
_JOB_KEY = re.compile(r"(?:^|[:/])jobs?[:/]([a-z0-9]{8,40})(?:[:/]|$)")
_JOB_PROJECT = re.compile(r'"project":"([a-z0-9-]+)"')
_AT_ONCE = 8
# Folders of the default project; those of others lie under ``projects/``.
_OF_DEFAULT = ("access", "models", "datasets", NOTES.rstrip("/"))
_LONGEST = 200  # of a name that is looked for
_HOLDINGS = "histill:cache:"


@dataclass(frozen=True)
class Words:
    """What is looked for: a dataset's version, and ids of jobs.

    Attributes:
        dataset: ``name@version``, or empty.
        job_ids: Of jobs.
        namesake: Whether a model has that name, too: then only what says that it is a
            dataset counts.
    """

    dataset: str = ""
    job_ids: tuple[str, ...] = ()
    namesake: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """Finds each of them as a whole word."""
        words = [rf"(?<![a-z0-9]){re.escape(each)}(?![a-z0-9])" for each in self.job_ids]
        if self.dataset:
            name, _, version = map(re.escape, self.dataset.partition("@"))
            before = r'"dataset": ?"' if self.namesake else "(?<![a-z0-9-])"
            # As it is written, as a resource, and as it lies in S3.
            words.append(rf"{before}{name}@{version}(?![0-9])")
            words.append(rf"(?<![a-z0-9-])datasets/{name}(/versions)?/{version}(?![0-9])")
        return re.compile("|".join(words) or r"(?!)")

    @property
    def of_jobs(self) -> re.Pattern[str]:
        """Finds the jobs only: other projects may have datasets of the same name."""
        return Words(job_ids=self.job_ids).pattern


@dataclass
class Looked:
    """Where a search looked, and what it found.

    Attributes:
        objects: Keys of S3 that were looked at.
        read: Objects of which the content was read.
        redis_keys: Keys of Redis.
        found: Keys of S3 that mention it.
        mentions: Where Redis does.
    """

    objects: int = 0
    read: int = 0
    redis_keys: int = 0
    found: list[str] = field(default_factory=list)
    mentions: list[Mention] = field(default_factory=list)


@dataclass(frozen=True)
class Search:
    """Looks through what a project may know of, and jobs, which lie together."""

    objects: ObjectStore
    jobs: JobStore
    traces: Traces

    def look(self, words: Words, *, project: str) -> Looked:
        """Looks everywhere but into the audit log, which names things and holds none of them."""
        looked = Looked()
        self._look_at_objects(words, project, looked)
        pattern = words.pattern
        looked.redis_keys, mentions = self.traces.find(lambda text: bool(pattern.search(text)))
        looked.mentions = [each for each in mentions if self._is_own(each, words, project)]
        return looked

    def mentions_of_jobs(self, words: Words) -> list[Mention]:
        """Where Redis still mentions the jobs."""
        pattern = words.of_jobs
        return self.traces.find(lambda text: bool(pattern.search(text)))[1]

    def _look_at_objects(self, words: Words, project: str, looked: Looked) -> None:
        whole, of_jobs = words.pattern, words.of_jobs

        def examined(key: str) -> tuple[str, bool, bool]:
            theirs = self._is_of_another(key, project)
            pattern = of_jobs if theirs else whole
            if pattern.search(key):
                return key, True, False
            if not (key.endswith(_TEXT) or _ALIAS.search(key)):
                return key, False, False
            return key, self._mentions(key, pattern), True

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="search") as pool:
            for key, found, read in pool.map(examined, self._keys(project)):
                looked.objects += 1
                looked.read += read
                if found:
                    looked.found.append(key)

    def _keys(self, project: str) -> Iterator[str]:
        own = "" if project == DEFAULT else f"{PROJECTS}{project}/"
        if own:
            yield from self.objects.list(own)
        for folder in self.objects.list_folders(""):
            others = project != DEFAULT and folder in _OF_DEFAULT
            if f"{folder}/" not in {PROJECTS, AUDIT} and not others:
                yield from self.objects.list(f"{folder}/")

    def _is_of_another(self, key: str, project: str) -> bool:
        """Whether a key is of a job of another project."""
        found = _JOB_KEY.search(key)
        return bool(
            found and key.startswith("jobs/") and self._owner(found[1]) not in {"", project}
        )

    def _owner(self, job_id: str) -> str:
        try:
            return self.jobs.get(job_id).project
        except (NotFoundError, CorruptArtifactError):
            return ""

    def _mentions(self, key: str, pattern: re.Pattern[str]) -> bool:
        """Whether an object's text does; a word may lie across two chunks."""
        rest = ""
        try:
            for chunk in self.objects.read(key):
                text = rest + chunk.decode(errors="replace")
                if pattern.search(text):
                    return True
                rest = text[-_LONGEST:]
        except NotFoundError:
            pass  # it went meanwhile
        return False

    def _is_own(self, mention: Mention, words: Words, project: str) -> bool:
        """Whether a mention is of what was removed, and not of another's of the same name."""
        if mention.key.startswith(_HOLDINGS):
            return False  # workers are asked
        if words.of_jobs.search(f"{mention.key} {mention.text}"):
            return True
        if found := _JOB_KEY.search(mention.key):
            return self._owner(found[1]) in {"", project}
        owner = _JOB_PROJECT.search(mention.text)
        return owner is None or owner[1] == project
