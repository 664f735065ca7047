"""Spans of an attempt at a job, as its supervisor sees it.

They lie in the trace of the call that created the job, however much later, and so do those of
every further attempt: one job is one trace. The trainer makes none itself. It executes foreign
programs, and so gets neither a setting nor an address of ours; what it says of its progress tells
when its stages begin. Of what it says nothing else gets into a span but numbers of steps.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.core.errors import WorkFailedError
from histill.core.jobs import JobState, Progress
from histill.distill.reasons import REASONS
from histill.distill.stops import StopReason
from histill.rpc.tracing import tracing

if TYPE_CHECKING:
    from datetime import datetime

    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from histill.core.jobs import Job
    from histill.rpc.spans import Spans

STAGES = frozenset(
    {"fetching", "teachers", "training", "validating", "exporting", "quantizing", "publishing"}
)
# A program within the trainer could go on saying that another stage has begun. Our own stages
# besides have spans all the same.
MOST_STAGES = 50


@dataclass
class AttemptSpans:
    """The span of one attempt, and of the stage that it is in; nothing where tracing is off.

    Attributes:
        spans: Makes spans.
        span: Of the attempt.
    """

    spans: Spans | None = None
    span: Span | None = None
    _stage: Span | None = None
    _progress: Progress | None = None
    _begun: int = 0
    # The attempt and whoever reads what the trainer says are two threads.
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def begun(cls, job: Job) -> AttemptSpans:
        """Those of an attempt that starts now."""
        spans = tracing()
        if spans is None:
            return cls()
        from opentelemetry.trace import SpanKind

        from histill.rpc.spans import remote

        created = remote(job.origin.traceparent)
        waited_s = _tell_queue(spans, job, created)
        attributes: dict[str, str | int | float] = {
            "histill.job": job.name,
            "histill.job.kind": job.kind,
            "histill.job.attempt": job.attempt,
            "histill.project": job.project,
        }
        if waited_s is not None:
            attributes["histill.job.queue_seconds"] = waited_s
        span = spans.begin(
            "job attempt", kind=SpanKind.CONSUMER, parent=created, attributes=attributes
        )
        return cls(spans, span)

    def logged(self) -> dict[str, str]:
        """What the attempt's log lines say, so that they are found from its trace."""
        if self.span is None:
            return {}
        from histill.rpc.spans import trace_id

        return trace_id(self.span)

    def enter(self, stage: str) -> None:
        """A stage of the supervisor's own has begun."""
        with self._lock:
            self._begin_stage(stage)
            self._progress = Progress(stage=stage)

    def see(self, progress: Progress) -> None:
        """Looks whether the trainer, which says this, is in another stage."""
        with self._lock:
            if self._progress is None or progress.stage != self._progress.stage:
                self._begun += 1
                self._begin_stage(progress.stage if self._begun <= MOST_STAGES else "")
            self._progress = progress

    def _begin_stage(self, stage: str) -> None:
        self._end_stage()
        if stage and self.spans is not None and self.span is not None:
            known = stage if stage in STAGES else "other"
            self._stage = self.spans.begin(known, parent=self.spans.under(self.span))

    def _end_stage(self) -> None:
        if self._stage is None:
            return
        if self._progress is not None and self._progress.steps:
            steps = {"histill.step": self._progress.step, "histill.steps": self._progress.steps}
            self._stage.set_attributes(steps)
        self._stage.end()
        self._stage = None

    def fail(self, exc: Exception) -> None:
        """Marks the attempt as failed, by the kind of the error and none of its words."""
        if self.span is None:
            return
        from histill.rpc.spans import fail

        reason = exc.reason if isinstance(exc, WorkFailedError) else ""
        fail(self.span, reason if reason in REASONS else type(exc).__name__)

    def end(self, outcome: str) -> None:
        """Ends what has been begun.

        Args:
            outcome: A state of jobs, or why the attempt stopped.
        """
        if self.span is None:
            return
        from opentelemetry.trace import StatusCode

        from histill.rpc.spans import fail

        with self._lock:
            self._end_stage()
        self.span.set_attribute("histill.job.outcome", outcome)
        if outcome == JobState.SUCCEEDED:
            self.span.set_status(StatusCode.OK)
        elif outcome == StopReason.LEASE_LOST:
            fail(self.span, outcome)
        self.span.end()


def _tell_queue(spans: Spans, job: Job, created: Context) -> float | None:
    """Makes the span of the wait for a worker; of a job that went back nobody knows since when."""
    if job.attempt != 1 or job.start_time is None:
        return None
    span = spans.begin("job queued", parent=created, at=_nanoseconds(job.create_time))
    span.end(_nanoseconds(job.start_time))
    return (job.start_time - job.create_time).total_seconds()


def _nanoseconds(time: datetime) -> int:
    return round(time.timestamp() * 1e9)
