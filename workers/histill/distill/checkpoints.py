"""A run's checkpoint in the object store, so that another worker can go on from it.

Each attempt writes under its own fencing number: a worker that has lost its lease without
knowing cannot overwrite what its successor stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import UnavailableError
from histill.core.job_store import job_prefix

if TYPE_CHECKING:
    from pathlib import Path

    from histill.core.ports import ObjectStore

log = structlog.get_logger()


@dataclass
class Checkpoints:
    """Those of one job.

    Attributes:
        objects: Where they are stored.
        job_id: The job.
        fence: Of this attempt.
        path: Of the file that the trainer writes and reads.
    """

    objects: ObjectStore
    job_id: str
    fence: int
    path: Path
    _stored: int = field(default=0)

    def fetch(self) -> bool:
        """Writes the newest one of any attempt to the path; whether there was one."""
        keys = list(self.objects.list(_prefix(self.job_id)))
        if not keys:
            return False
        with self.path.open("wb") as out:
            out.writelines(self.objects.read(keys[-1]))
        self._stored = self._written
        return True

    def store(self) -> None:
        """Stores the file if it is new; when the store is away the next one will do."""
        written = self._written
        if written == self._stored:
            return
        try:
            self.objects.put_file(f"{_prefix(self.job_id)}{self.fence:012}.safetensors", self.path)
        except UnavailableError as exc:
            log.warning("checkpoint_not_stored", job=self.job_id, why=str(exc))
        else:
            self._stored = written

    @property
    def _written(self) -> int:
        """When the file was written, in nanoseconds; 0 when there is none."""
        return self.path.stat().st_mtime_ns if self.path.exists() else 0


def drop_checkpoints(objects: ObjectStore, job_id: str) -> None:
    """Removes all of a job that has ended."""
    objects.delete_prefix(_prefix(job_id))


def _prefix(job_id: str) -> str:
    return f"{job_prefix(job_id)}checkpoints/"
