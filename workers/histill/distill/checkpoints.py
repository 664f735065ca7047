"""A run's checkpoint in the object store, so that another worker can go on from it.

Each attempt writes under its own fencing number: a worker that has lost its lease without
knowing cannot overwrite what its successor stored.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import HistillError
from histill.core.job_keys import checkpoint_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.core.ports import ObjectStore

log = structlog.get_logger()

_POLL_S = 0.5


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
        keys = list(self.objects.list(checkpoint_prefix(self.job_id)))
        if not keys:
            return False
        with self.path.open("wb") as out:
            out.writelines(self.objects.read(keys[-1]))
        self._stored = self._written
        return True

    @contextmanager
    def stored(self) -> Iterator[None]:
        """Stores each new file while the block runs; at its end nothing is under way.

        Also the last one, when the block did not come to its end: it will be gone on from.
        """
        done = threading.Event()

        def watch() -> None:
            while not done.wait(_POLL_S):
                self.store()

        # In this context, so that what is logged there belongs to the same request.
        run = partial(copy_context().run, watch)
        thread = threading.Thread(target=run, name="stored", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            _ended(done, thread)
            self.store()  # the last one, which nobody has looked for yet
            raise
        _ended(done, thread)

    def store(self) -> None:
        """Stores the file if it is new; where that fails the next one will do."""
        written = self._written
        if written == self._stored:
            return
        try:
            self.objects.put_file(
                f"{checkpoint_prefix(self.job_id)}{self.fence:012}.safetensors", self.path
            )
        except (HistillError, OSError, ValueError) as exc:
            log.warning("checkpoint_not_stored", job=self.job_id, why=str(exc))
        else:
            self._stored = written

    @property
    def _written(self) -> int:
        """When the file was written, in nanoseconds; 0 when there is none."""
        return self.path.stat().st_mtime_ns if self.path.exists() else 0


def _ended(done: threading.Event, thread: threading.Thread) -> None:
    done.set()
    thread.join()
