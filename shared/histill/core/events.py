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
