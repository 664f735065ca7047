"""Spans of an attempt, from what its supervisor sees."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from histill.core.errors import StorageUnavailableError, WorkFailedError
from histill.core.jobs import Job, JobState, Origin, Progress
from histill.core.specs import SupervisedSpec
from histill.distill.attempt_spans import MOST_STAGES, AttemptSpans
from histill.distill.relay import Relay
from histill.distill.workdir import RunEvent
from histill.rpc.spans import Spans
from histill.rpc.tracing import trace_with

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = datetime(2026, 5, 4, tzinfo=UTC)
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def job(**changes: Any) -> Job:
    created = Job(
        id="0123456789",
        spec=SupervisedSpec(dataset="blobs", output_model="made"),
        create_time=NOW,
        display_name="Zebediah Quartz",
        origin=Origin(request_id="ab" * 16, traceparent=f"00-{TRACE}-{SPAN}-01"),
    ).model_copy(update=changes)
    return created.moved_to(JobState.RUNNING, at=NOW + timedelta(seconds=90))


@pytest.fixture
def told() -> Iterator[InMemorySpanExporter]:
    """What has been told of spans in this process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(Spans(provider.get_tracer("test")))
    yield exporter
    trace_with(None)


def names(told: InMemorySpanExporter) -> list[str]:
    return [each.name for each in told.get_finished_spans()]


def test_stages_follow_each_other(told: InMemorySpanExporter) -> None:
    """One ends where the next begins; the last with the attempt, and steps are told."""
    spans = AttemptSpans.begun(job())
    spans.enter("fetching")
    for step in range(1, 40):
        spans.see(Progress(stage="training", step=step, steps=40))
    spans.see(Progress(stage="exporting", step=40, steps=40))
    spans.end(JobState.SUCCEEDED)
    assert names(told) == ["job queued", "fetching", "training", "exporting", "job attempt"]
    queued, fetching, training, exporting, attempt = told.get_finished_spans()
    assert dict(training.attributes or {}) == {"histill.step": 39, "histill.steps": 40}
    assert fetching.end_time <= training.start_time <= exporting.start_time  # type: ignore[operator]
    for each in (queued, attempt):
        assert each.parent is not None
        assert f"{each.parent.trace_id:032x} {each.parent.span_id:016x}" == f"{TRACE} {SPAN}"
    assert fetching.parent is not None
    assert fetching.parent.span_id == attempt.context.span_id
    assert attempt.attributes is not None
    assert attempt.attributes["histill.job.queue_seconds"] == 90
    assert "Quartz" not in attempt.to_json()


def test_a_second_attempt_lies_in_the_same_trace(told: InMemorySpanExporter) -> None:
    """Since when it has waited nobody knows, so no wait is told."""
    AttemptSpans.begun(job(attempt=1)).end(JobState.SUCCEEDED)
    (attempt,) = told.get_finished_spans()
    assert f"{attempt.context.trace_id:032x}" == TRACE
    assert attempt.attributes is not None
    assert attempt.attributes["histill.job.attempt"] == 2


def test_a_trainer_that_was_taken_over_puts_no_word_into_a_span(
    told: InMemorySpanExporter,
) -> None:
    """Neither as a stage nor as a reason, and not as many spans as it likes."""
    spans = AttemptSpans.begun(job())
    spans.enter("fetching")
    for number in range(10 * MOST_STAGES):
        spans.see(Progress(stage=f"Quartz {number}", steps=5))
    # What its supervisor does afterwards has its span all the same.
    spans.enter("publishing")
    spans.fail(WorkFailedError("Quartz", reason="QUARTZ", hint="Quartz"))
    spans.end(JobState.FAILED)
    others = ["other"] * MOST_STAGES
    assert names(told) == ["job queued", "fetching", *others, "publishing", "job attempt"]
    assert told.get_finished_spans()[-2].attributes == {}
    assert not [each for each in told.get_finished_spans() if "uartz" in each.to_json()]


def test_no_number_of_a_trainer_loses_a_batch_of_spans(told: InMemorySpanExporter) -> None:
    """Those of more than 64 bits cannot be sent; the largest that a trainer can say can be."""
    line = '{{"progress": {{"stage": "training", "step": {0}, "steps": {0}}}}}'
    with pytest.raises(ValidationError):
        RunEvent.model_validate_json(line.format(10**30))
    spans = AttemptSpans.begun(job())
    spans.see(RunEvent.model_validate_json(line.format(2**31 - 1)).progress)
    spans.end(JobState.FAILED)
    sent = encode_spans(told.get_finished_spans()).SerializeToString()
    assert b"histill.steps" in sent


@pytest.mark.parametrize(
    ("exc", "word"),
    [
        (WorkFailedError("x", reason="DIVERGED", hint=""), "DIVERGED"),
        (WorkFailedError("x", reason="SAID_BY_OTHERS", hint=""), "WorkFailedError"),
        (StorageUnavailableError("s3://secret"), "StorageUnavailableError"),
    ],
    ids=["ours", "theirs", "class"],
)
def test_errors_are_told_by_their_kind(
    told: InMemorySpanExporter, exc: Exception, word: str
) -> None:
    """A reason of ours, or the class; never the message."""
    spans = AttemptSpans.begun(job(attempt=1))
    spans.fail(exc)
    spans.end(JobState.FAILED)
    (attempt,) = told.get_finished_spans()
    assert attempt.attributes is not None
    assert (attempt.attributes["error.type"], attempt.status.is_ok) == (word, False)
    assert attempt.status.description is None


def test_where_tracing_is_off_all_of_it_does_nothing() -> None:
    """And an attempt has nothing to say in the log."""
    spans = AttemptSpans.begun(job())
    spans.see(Progress(stage="training"))
    spans.fail(ValueError("x"))
    spans.end(JobState.SUCCEEDED)
    assert (spans.span, spans.logged()) == (None, {})


def test_a_trace_that_is_not_kept_leaves_no_spans(told: InMemorySpanExporter) -> None:
    """Whoever created the job has decided, also about what happens hours later."""
    origin = Origin(traceparent=f"00-{TRACE}-{SPAN}-00")
    spans = AttemptSpans.begun(job(origin=origin))
    spans.see(Progress(stage="training"))
    spans.end(JobState.SUCCEEDED)
    assert names(told) == []
    assert spans.logged() == {}


def test_what_the_relay_logs_belongs_to_the_request() -> None:
    """Its thread has the context of who started it."""
    found: list[Any] = []
    done = threading.Event()

    def listen(_: object) -> None:
        found.append(structlog.contextvars.get_contextvars())
        done.set()

    with structlog.contextvars.bound_contextvars(request_id="ab" * 16):
        relay = Relay(listen, listen)
    relay.put("a line")
    assert done.wait(10)
    relay.close(wait_s=5)
    assert found == [{"request_id": "ab" * 16}]
