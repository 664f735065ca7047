"""Every span that no collector gets is counted, and none that one gets."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from collector import collecting
from conftest import HOST
from free_ports import free_port
from histill.core.tracing_settings import TracingSettings
from histill.rpc.span_queue import Bounded, Quietly, Waiting
from histill.rpc.trace_export import MOST_WAITING
from histill.rpc.tracing import traces_exported, tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from structlog.typing import EventDict

MANY = 2 * MOST_WAITING + 100


class Scripted(SpanExporter):
    """A collector that takes nothing, takes everything, or raises.

    Attributes:
        takes: Whether it takes.
        mistake: Raised instead.
        free: While it is not set, nothing comes back.
    """

    def __init__(self, *, takes: bool = False, mistake: Exception | None = None) -> None:
        self.takes = takes
        self.mistake = mistake
        self.free = threading.Event()
        self.free.set()
        self.tries = 0
        self.ends = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        self.tries += 1
        self.free.wait(10)
        if self.mistake:
            raise self.mistake
        return SpanExportResult.SUCCESS if self.takes else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self.ends += 1
        self.free.set()


def lost(logs: list[EventDict]) -> list[int]:
    """What each warning says."""
    return [line["count"] for line in logs if line["event"] == "spans_lost"]


@contextmanager
def dead(kind: str) -> Iterator[str]:
    """Where nobody listens, or somebody who never answers."""
    if kind == "closed":
        yield f"http://{HOST}:{free_port()}"
        return
    with socket.create_server((HOST, 0)) as listening:
        yield f"http://{HOST}:{listening.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["closed", "silent"])
def test_at_the_end_every_span_is_told_that_a_dead_collector_did_not_get(kind: str) -> None:
    """Those that found no room, those that waited, and those that were being sent."""
    with (
        dead(kind) as endpoint,
        capture_logs() as logs,
        traces_exported(TracingSettings(endpoint=endpoint), process="test"),
    ):
        spans = tracing()
        assert spans is not None
        for _ in range(MANY):
            spans.begin("work").end()
    assert sum(lost(logs)) == MANY
    assert len(lost(logs)) <= 2  # at most one before the end


def test_of_a_collector_that_listens_nothing_is_lost() -> None:
    """As long as no more wait than may."""
    with (
        collecting() as collector,
        capture_logs() as logs,
        traces_exported(TracingSettings(endpoint=collector.endpoint), process="test"),
    ):
        spans = tracing()
        assert spans is not None
        for _ in range(MOST_WAITING):
            spans.begin("work").end()
    assert (len(collector.spans), lost(logs)) == (MOST_WAITING, [])


def test_what_finds_no_room_is_lost_and_what_waits_is_not() -> None:
    """Counted to the last one while another batch is under way; the rest is sent."""
    waiting, inner = Waiting(most=30, endpoint="http://x:1"), Scripted(takes=True)
    inner.free.clear()
    quietly = Quietly(inner, waiting)
    batches = BatchSpanProcessor(quietly, max_queue_size=40, max_export_batch_size=10)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Bounded(batches, waiting))
    tracer = provider.get_tracer("test")
    with capture_logs() as logs:
        for _ in range(10):
            tracer.start_span("sent").end()
        while not inner.tries:  # its own thread comes for them
            threading.Event().wait(0.01)
        for _ in range(37):
            tracer.start_span("waits").end()
        inner.free.set()
        provider.shutdown()
        waiting.close()
        tracer.start_span("late").end()
    assert lost(logs) == [7]
    assert inner.tries == 4


def test_an_exporter_that_raises_loses_its_batch() -> None:
    """A span that cannot be encoded takes the others of its batch with it."""
    waiting = Waiting(most=10, endpoint="http://x:1")
    quietly = Quietly(Scripted(mistake=ValueError("told")), waiting)
    spans = [TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span("x")] * 3
    for _ in spans:
        assert waiting.admits()
    with capture_logs() as logs, pytest.raises(ValueError, match="told"):
        quietly.export(spans)  # type: ignore[arg-type]
    assert lost(logs) == [3]


def test_lost_spans_are_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their number, however often the collector is tried; the rest at the end."""
    now = [1000.0]
    monkeypatch.setattr("histill.rpc.span_queue.time.monotonic", lambda: now[0])
    waiting = Waiting(most=100, endpoint="http://x:1")
    with capture_logs() as logs:
        for seconds in (0, 10, 59, 61, 70):
            now[0] = 1000.0 + seconds
            waiting.lose(3)
            waiting.tell()
        assert lost(logs) == [3, 9]
        waiting.close()
        waiting.close()
    assert lost(logs) == [3, 9, 3]


def test_an_exporter_that_has_ended_tries_no_more() -> None:
    """So that a process whose time is up does not wait for a collector once more."""
    inner = Scripted()
    quietly = Quietly(inner, Waiting(most=1, endpoint="http://x:1"))
    quietly.shutdown()
    quietly.shutdown()
    assert quietly.export([]) is SpanExportResult.FAILURE
    assert (inner.tries, inner.ends) == (0, 1)
