"""What watchers of a job hear of a running attempt: progress and log lines."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import UnavailableError
from histill.core.events import JobEvent
from histill.core.jobs import Progress
from histill.distill import measures

if TYPE_CHECKING:
    from histill.core.jobs import Job
    from histill.distill.workdir import RunEvent
    from histill.distill.worker import Worker

# So often are events moved from Redis into the archive.
_ARCHIVED_EVERY = 1000
# After a failure: each try may take as long as Redis' time limits, and more waits to be told.
_SILENT_S = 1.0
log = structlog.get_logger()


@dataclass
class Telling:
    """Tells of one attempt; what cannot be told while Redis is away is lost, and logged once.

    Attributes:
        log_tail: The last lines of the trainer's log.
    """

    worker: Worker
    job: Job
    log_tail: deque[str] = field(default_factory=lambda: deque(maxlen=30))
    _told: int = 0
    _step: int = 0
    _away: bool = False
    _silent_until: float = 0.0

    def stage(self, name: str) -> None:
        """Says what the attempt does now."""
        self._progress(Progress(stage=name), {})

    def event(self, event: RunEvent) -> None:
        """Passes on what the trainer says of its progress."""
        self._count(event)
        self._progress(event.progress, event.metrics)

    def _count(self, event: RunEvent) -> None:
        """Counts the steps since the event before; several events a second are not all told."""
        if event.progress.stage != "training":
            return  # other stages count images, or nothing
        step, before = event.progress.step, self._step
        self._step = step
        # Without it nothing was done: the run goes on from a checkpoint, and says from where.
        if seconds := event.metrics.get("step_seconds"):
            measures.STEP_SECONDS.labels(self.job.kind).observe(seconds)
            # Fewer than before: it began anew, or went back to an earlier state.
            measures.STEPS.labels(self.job.kind).inc(max(0, step - before))

    def line(self, text: str) -> None:
        """Passes on a line of the trainer's log."""
        self.log_tail.append(text)
        self._append(JobEvent(time=self.worker.clock(), attempt=self.job.attempt, log=text))

    def _progress(self, progress: Progress, metrics: dict[str, float]) -> None:
        now, attempt = self.worker.clock(), self.job.attempt
        event = JobEvent(time=now, attempt=attempt, progress=progress, metrics=metrics)
        if not self._append(event):
            return
        try:
            self.worker.live.set_progress(self.job.id, progress, metrics)
        except UnavailableError:
            self._away = True

    def _append(self, event: JobEvent) -> bool:
        """Whether it was told; not, when the job is in its next attempt already."""
        if time.monotonic() < self._silent_until:
            return False
        try:
            stored = self.worker.jobs.events.append(self.job.id, event)
        except UnavailableError as exc:
            # The training goes on.
            if not self._away:
                log.warning("events_lost", job=self.job.name, error=str(exc))
            self._away = True
            self._silent_until = time.monotonic() + _SILENT_S
            return False
        self._away = False
        self._told += 1
        if self._told % _ARCHIVED_EVERY == 0:
            self._archive()
        return stored is not None

    def _archive(self) -> None:
        try:
            self.worker.jobs.archive(self.job.id)
        except UnavailableError as exc:
            log.warning("events_not_archived", job=self.job.name, error=str(exc))
