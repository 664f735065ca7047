"""What happens to a job, as its watchers see it."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from histill.core.jobs import JobState, Progress


class JobEvent(BaseModel):
    """One event; exactly one of ``state``, ``progress`` and ``log`` is set.

    Attributes:
        id: Given by the event log when appended; grows within a job. Empty before.
        time: When it happened, UTC.
        attempt: The attempt it belongs to, from 1; 0 before the first start.
        state: The job moved to this state.
        progress: New progress.
        metrics: Values measured at this moment, e.g. ``loss``, ``val_dice``.
        log: A line of the worker's or trainer's log.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    time: datetime
    id: str = ""
    attempt: int = 0
    state: JobState | None = None
    progress: Progress | None = None
    metrics: dict[str, float] = {}
    log: str | None = None

    @property
    def begins(self) -> bool:
        """Whether it is the first event of a job's life."""
        return self.state is JobState.QUEUED and not self.attempt


def event_order(event_id: str) -> tuple[int, int]:
    """Sorts events by their ids, ``MILLISECONDS-NUMBER``; an empty id comes before all."""
    time, _, number = event_id.partition("-")
    return int(time or 0), int(number or 0)
