"""Removes what killed processes left in the object store and nothing names any more.

An upload whose registry died has files and no manifest; a worker that slept through its
lease may have stored for a job that is gone, or published what is not the job's result.
Only what stays like that for long is removed: it may be about to be finished.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.core import catalog, results
from histill.core.catalog import DATASETS, MODELS
from histill.core.errors import CorruptArtifactError, HistillError, NotFoundError
from histill.core.job_keys import job_prefix
from histill.core.projects import DEFAULT, FOLDER, scoped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from histill.core.catalog import Shelf
    from histill.core.job_store import JobStore
    from histill.core.ports import ObjectStore
    from histill.jobs.settings import SweeperPart

log = structlog.get_logger()


@dataclass(frozen=True)
class Orphan:
    """Objects under a prefix of a project's part of the store, and why nothing needs them."""

    project: str
    prefix: str
    why: str


@dataclass
class Sweeper:
    """Looks through the store now and then.

    Attributes:
        objects: All of it.
        jobs: Knows which jobs there are.
        since: When each orphan was first seen, in monotonic seconds.
        good: Versions that were found whole and named; they stay so.
    """

    objects: ObjectStore
    jobs: JobStore
    settings: SweeperPart
    since: dict[Orphan, float] = field(default_factory=dict)
    good: set[tuple[str, str]] = field(default_factory=set)

    async def run(self, leads: Callable[[], bool]) -> None:
        """Looks now and then until it is cancelled, while this replica leads."""
        while True:
            await asyncio.sleep(self.settings.every_s)
            try:
                if leads():
                    await asyncio.to_thread(self.look)
            except HistillError as exc:
                log.warning("sweeper_waits", why=str(exc))
            except Exception:
                log.exception("sweeper_stumbled")

    def look(self) -> None:
        """Looks through all of it, and removes what has been an orphan for long."""
        now = time.monotonic()
        found = set(self._orphans())
        self.since = {orphan: self.since.get(orphan, now) for orphan in found}
        for orphan, first in sorted(self.since.items(), key=lambda item: item[0].prefix):
            if now - first >= self.settings.after_s:
                scoped(self.objects, orphan.project).delete_prefix(orphan.prefix)
                log.warning("orphan_removed", prefix=orphan.prefix, why=orphan.why)

    def _orphans(self) -> Iterator[Orphan]:
        for job_id in self.objects.list_folders("jobs/"):
            if not self._known(job_id):
                yield Orphan(DEFAULT, job_prefix(job_id), "no record")
        for project in [DEFAULT, *self.objects.list_folders(FOLDER)]:
            yield from self._versions(project, MODELS)
            yield from self._versions(project, DATASETS)

    def _known(self, job_id: str) -> bool:
        try:
            self.jobs.get(job_id)
        except NotFoundError:
            return False
        except CorruptArtifactError:
            pass  # somebody may want to mend it
        return True

    def _versions(self, project: str, shelf: Shelf[catalog.M]) -> Iterator[Orphan]:
        store = scoped(self.objects, project)
        for name in catalog.names(store, shelf):
            for version in catalog.versions(store, shelf, name):
                prefix = shelf.prefix(name, version)
                if (project, prefix) in self.good:
                    continue
                why = self._fault(store, shelf, name, version)
                if why:
                    yield Orphan(project, prefix, why)
                elif why is not None:
                    self.good.add((project, prefix))

    def _fault(
        self, store: ObjectStore, shelf: Shelf[catalog.M], name: str, version: int
    ) -> str | None:
        """Why nothing needs a version; empty when something does, ``None`` when it may."""
        try:
            manifest = catalog.read_manifest(store, shelf, name, version)
        except NotFoundError:
            return "no manifest"
        except CorruptArtifactError:
            return None
        job_id = str(getattr(manifest, "job", "")).removeprefix("jobs/")
        try:
            job = self.jobs.get(job_id) if job_id else None
        except (NotFoundError, CorruptArtifactError):
            job = None
        if job is None:
            return ""  # of a job that was deleted the result stays
        if not job.state.final:
            return None
        ours = job.result_model == results.result_name(manifest.reference)
        # Who points an alias at it needs it, whatever else is wrong.
        if ours or version in catalog.aliases(store, name).values():
            return ""
        return f"not the result of {job.name}"
