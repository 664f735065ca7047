"""Spans of a program's streams: they end with the stream, and keep no stream alive."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from conftest import HOST
from histill.rpc import client_spans
from histill.rpc.channel import sync_channel
from histill.rpc.client_spans import CallDetails, ProgramSpans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LATER: list[Callable[[], None]] = []  # what gRPC's thread has still to call
OK, CANCELLED, ABORTED, LATE = 0, 1, 10, 4


class Streams:
    """Answers twice; then, by what it was asked, ends, fails, or goes on for ever."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def answer(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.ended.set)
        yield from (b"1", b"2")
        if request == b"fail":
            context.abort(grpc.StatusCode.ABORTED, "told")
        if request == b"stay":
            self.ended.wait(30)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What a program's own tracer provider has been told."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(client_spans, "_program_tracer", lambda: provider.get_tracer("program"))
    return exporter


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def watch(streams: Streams) -> Iterator[Callable[..., Any]]:
    """Begins a stream of answers from a real server."""
    handler: Any = grpc.unary_stream_rpc_method_handler(streams.answer)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("x.Y", {"Watch": handler}),)
    )
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    channel = sync_channel(f"{HOST}:{port}")
    made: Any = channel.unary_stream("/x.Y/Watch")
    yield made
    # While the channel is open: its end would end every stream.
    channel.close()
    streams.ended.set()
    server.stop(None).wait()


def codes(told: InMemorySpanExporter, *, seconds: float = 10.0) -> list[Any]:
    """Of all spans that have ended, once one has."""
    deadline = time.monotonic() + seconds
    while not told.get_finished_spans() and time.monotonic() < deadline:
        time.sleep(0.01)
    return [(each.attributes or {})["rpc.grpc.status_code"] for each in told.get_finished_spans()]


def first_of(call: Any) -> bytes:
    for answer in call:
        return bytes(answer)
    return b""


@pytest.mark.parametrize("traced", [True, False])
def test_a_stream_that_nobody_reads_any_more_is_cancelled(
    request: pytest.FixtureRequest,
    watch: Callable[..., Any],
    streams: Streams,
    traced: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The server hears of it though the channel is open, with a tracer as without one."""
    told = request.getfixturevalue("told") if traced else None
    assert first_of(watch(b"stay")) == b"1"
    gc.collect()
    assert streams.ended.wait(10)
    if told is not None:
        assert codes(told) == [CANCELLED]


def test_a_stream_that_is_read_to_its_end_is_a_success(
    watch: Callable[..., Any], told: InMemorySpanExporter
) -> None:
    """Though nobody holds it when gRPC says so; its span ends once, when the reader has all."""
    for count in range(1, 31):
        assert list(watch(b"end")) == [b"1", b"2"]
        assert len(told.get_finished_spans()) == count
    assert set(codes(told)) == {OK}


class Ended:
    """A call that has ended well, of which gRPC's thread has not told yet."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        LATER.append(callback)
        return True

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK

    def __next__(self) -> bytes:
        raise StopIteration


def test_a_reader_who_is_faster_than_grpc_has_a_success_too(
    told: InMemorySpanExporter,
) -> None:
    """The call is gone when gRPC's thread says that it has ended."""
    details = CallDetails("/x.Y/Watch", None, None, None, None, None)
    assert list(ProgramSpans().intercept_unary_stream(lambda *_: Ended(), details, b"")) == []
    LATER.pop()()
    assert codes(told) == [OK]


def test_a_stream_that_fails_tells_its_code(
    watch: Callable[..., Any], told: InMemorySpanExporter
) -> None:
    """To its reader as to its span."""
    with pytest.raises(grpc.RpcError, match="told"):
        list(watch(b"fail"))
    assert codes(told) == [ABORTED]


def test_a_stream_that_is_cancelled_or_late_ends_its_span_unread(
    watch: Callable[..., Any], told: InMemorySpanExporter
) -> None:
    """Also while somebody still holds it; what else gRPC says of a call is told as before."""
    call = watch(b"stay")
    assert next(call) == b"1"
    assert call.cancel()
    assert codes(told) == [CANCELLED]
    assert (call.code(), call.is_active()) == (grpc.StatusCode.CANCELLED, False)
    told.clear()
    late = watch(b"stay", timeout=0.2)
    assert codes(told) == [LATE]
    assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
