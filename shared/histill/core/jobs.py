"""A job and the moves it may make."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from histill.core.errors import IllegalMoveError
from histill.core.pools import DEFAULT_POOL
from histill.core.projects import DEFAULT
from histill.core.specs import DataFreeSpec, JobSpec, MultiTeacherSpec, SupervisedSpec


class JobState(StrEnum):
    """Where a job is in its life; the last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """No move leads out of it."""
        return not LEGAL_MOVES[self]


LEGAL_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class JobKind(StrEnum):
    """What kind of work a job does."""

    SUPERVISED = "SUPERVISED"
    MULTI_TEACHER = "MULTI_TEACHER"
    DATA_FREE = "DATA_FREE"


_AFTER_TRAINING = frozenset({"exporting", "quantizing", "publishing"})


_INT32 = 2**31 - 1


class _Record(BaseModel):
    # From the first release on, what a later version adds is passed over: during an upgrade two
    # versions work on one job.
    # A loss may be NaN: by default it is stored as null, and never read again.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class Progress(_Record):
    """How far a running attempt is.

    Attributes:
        stage: ``fetching``, ``teachers``, ``training``, ``validating``,
            ``exporting``, ``quantizing`` or ``publishing``.
        step: Optimiser steps done.
        steps: Optimiser steps in all.
        eta_seconds: Estimated seconds to the end of training; 0 when not known.

    The bounds are those of the API's numbers: a trainer runs foreign programs, and may say
    anything.
    """

    stage: str = Field(max_length=100)
    step: int = Field(default=0, ge=0, le=_INT32)
    steps: int = Field(default=0, ge=0, le=_INT32)
    eta_seconds: float = Field(default=0.0, ge=0, allow_inf_nan=False)

    @property
    def share(self) -> float:
        """How much is done, from 0 to 1: nothing before the first step, all after the last."""
        if self.stage in _AFTER_TRAINING:
            return 1.0
        return min(1.0, self.step / self.steps) if self.steps else 0.0


class JobError(_Record):
    """Why a job failed.

    Attributes:
        reason: An upper-case word for programs, e.g. ``OUT_OF_MEMORY``.
        message: What happened, for people.
        hint: What the user can do about it.
        log_tail: The last lines of the trainer's log.
    """

    reason: str
    message: str
    hint: str
    log_tail: tuple[str, ...] = ()


class Origin(_Record):
    """The call that created a job: leads from what workers log and trace to who asked for it.

    Attributes:
        request_id: Under which the logs have that call.
        traceparent: W3C's header for what is done because of it; empty: it was not traced.
    """

    request_id: str = ""
    traceparent: str = ""


class Job(_Record):
    """One distillation job, as stored in ``jobs/{id}/job.json``.

    Attributes:
        project: Whose it is; others cannot see it, nor it their models.
        pool: Of the workers that run it.
        request_id: Idempotency key of its creation.
        origin: The call that created it.
        losses: Attempts that ended for no fault of the job: a lost worker or trainer, or
            servers that were away; a drained worker's attempt is none.
        fence: Of the lease under which the job last started: a writer that holds an older
            one has lost the job.
        publishing: ``name@version`` that the running attempt publishes, noted before its
            first byte is stored: whoever finds the job afterwards knows where to look.
        closed: Everything that only a run needs is gone, and its events are archived.
        revision: Grows with each change, so that a writer who slept is told from the next.
    """

    # What a later version adds is kept when this one writes the record back; of a spec nothing
    # is passed over.
    model_config = ConfigDict(extra="allow")

    id: str
    spec: JobSpec
    create_time: datetime
    project: str = DEFAULT
    display_name: str = ""
    priority: int = 0
    # Both are left out where they say nothing.
    pool: str = Field(default=DEFAULT_POOL, exclude_if=lambda pool: pool == DEFAULT_POOL)
    request_id: str = ""
    origin: Origin = Field(default=Origin(), exclude_if=lambda origin: origin == Origin())
    state: JobState = JobState.QUEUED
    attempt: int = 0
    losses: int = 0
    fence: int = 0
    publishing: str = ""
    closed: bool = False
    revision: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    progress: Progress | None = None
    metrics: dict[str, float] = {}
    error: JobError | None = None
    result_model: str = ""
    cancel_requested: bool = False

    @property
    def name(self) -> str:
        """Resource name, ``jobs/{id}``."""
        return f"jobs/{self.id}"

    @property
    def place(self) -> str:
        """Sorts jobs by the time of their creation, and names one place among them."""
        return f"{round(self.create_time.timestamp() * 1000):013}-{self.id}"

    @property
    def kind(self) -> JobKind:
        """Follows from the spec."""
        match self.spec:
            case SupervisedSpec():
                return JobKind.SUPERVISED
            case MultiTeacherSpec():
                return JobKind.MULTI_TEACHER
            case DataFreeSpec():
                return JobKind.DATA_FREE

    def moved_to(self, state: JobState, *, at: datetime, **changes: Any) -> Job:
        """The job in another state.

        Args:
            state: The new state.
            at: The present time, for ``start_time`` or ``end_time``.
            changes: Further fields to set, e.g. ``error`` or ``result_model``.

        Raises:
            IllegalMoveError: A job in the present state cannot go there.
        """
        if state not in LEGAL_MOVES[self.state]:
            raise IllegalMoveError(f"{self.name} is {self.state} and cannot become {state}")
        if state is JobState.RUNNING:
            changes |= {"start_time": at, "attempt": self.attempt + 1, "progress": None}
        if state is JobState.QUEUED:
            changes |= {"start_time": None, "progress": None}
        if state.final:
            changes |= {"end_time": at, "cancel_requested": False}
        return self.model_copy(update={"state": state, **changes})
