"""Keeps what lies on this worker's disk in step with what exists, and tells others of it.

What teachers said about images is as good as the images, so it goes with their dataset: a
thread looks every few seconds, and at once when somebody asks.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import threading
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.core.catalog import DATASETS
from histill.core.errors import HistillError, NotFoundError, UnavailableError
from histill.core.names import NAME_PATTERN
from histill.core.ports import Told
from histill.core.projects import scoped
from histill.distill.scratch import work_folders
from histill.distill.teacher_cache import trim

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.core.ports import Holdings, ObjectStore

EVERY_S = 10.0
LIVES_S = 60.0
_POLL_S = 1.0
_DATASET = re.compile(rf"({NAME_PATTERN})@([1-9][0-9]{{0,8}})")
_PROJECT = re.compile(NAME_PATTERN)
_ENTRY = re.compile(r"[0-9a-f]{64}")
_JOB = re.compile(r"([a-z0-9]{8,40})-")
log = structlog.get_logger()


@dataclass
class CacheKeeper:
    """Looks after the folders of one worker.

    Attributes:
        objects: All of the store.
        holdings: Where to tell.
        cache: The teachers' cache; ``None`` when there is none.
        cache_bytes: What it may hold.
        scratch: Folder of which the folders of this and other workers are part.
        worker: Name of this one, unlike any other's.
    """

    objects: ObjectStore
    holdings: Holdings
    cache: Path | None
    cache_bytes: int
    scratch: Path
    worker: str = field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Looks, in a thread, while the block runs, and once more at its end."""
        done = threading.Event()
        thread = threading.Thread(target=self._keep, args=(done,), name="cache", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(LIVES_S)

    def _keep(self, done: threading.Event) -> None:
        waited = EVERY_S
        known = -1
        while not done.wait(_POLL_S):
            waited += _POLL_S
            try:
                asked = self.holdings.asked()
                if asked != known or waited >= EVERY_S:
                    self.look(asked)
                    known, waited = asked, 0.0
            except Exception as exc:  # noqa: BLE001 - the next look may do
                log.warning("cache_not_kept", why=type(exc).__name__)
        try:
            if not self.look(self.holdings.asked()):
                self.holdings.leave(self.worker)
        except (HistillError, OSError) as exc:
            log.warning("cache_not_kept", why=type(exc).__name__)

    def look(self, asked: int) -> frozenset[str]:
        """Removes what belongs to nothing any more, and tells and returns what lies there yet.

        Args:
            asked: Number of the last question, read before.
        """
        held = frozenset([*self._cached(), *self._worked_on()])
        self.holdings.tell(self.worker, Told(asked, held), ttl_s=LIVES_S)
        return held

    def _cached(self) -> Iterator[str]:
        if self.cache is None or not self.cache.is_dir():
            return
        for folder, project in _folders(self.cache, _PROJECT):
            for path in folder.iterdir():
                if _ENTRY.fullmatch(path.name):
                    path.unlink(missing_ok=True)  # laid down when nothing told whose it is
            for path, dataset in _folders(folder, _DATASET):
                if not self._exists(project, dataset):
                    shutil.rmtree(path, ignore_errors=True)
                    log.info("cache_removed", gone=not path.exists())
                if path.exists():
                    yield f"{project}/{dataset}"
        trim(self.cache, self.cache_bytes)

    def _exists(self, project: str, dataset: str) -> bool:
        """Whether it does; a store that is away does not say so."""
        name, _, version = dataset.partition("@")
        try:
            self.objects_of(project).get(DATASETS.manifest_key(name, int(version)))
        except NotFoundError:
            return False
        except UnavailableError:
            return True
        return True

    def objects_of(self, project: str) -> ObjectStore:
        """Datasets of a project."""
        return scoped(self.objects, project)

    def _worked_on(self) -> Iterator[str]:
        for path in work_folders(self.scratch):
            if found := _JOB.match(path.name):
                yield f"jobs/{found[1]}"


def _folders(parent: Path, pattern: re.Pattern[str]) -> Iterator[tuple[Path, str]]:
    """Folders right in another that are named like something of ours; others are left alone."""
    for path in sorted(parent.iterdir()):
        if pattern.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path, path.name
