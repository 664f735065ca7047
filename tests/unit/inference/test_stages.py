"""Spans of a request's stages, of requests that end without an answer above all."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from structlog.testing import capture_logs

from batchers import Setting, image, values
from histill.core.errors import DeadlineExceededError
from histill.inference import batching
from histill.inference.call import Call
from histill.inference.computer import Computer
from histill.inference.runtime import MASK
from histill.inference.watch import Watch
from histill.rpc.spans import Spans
from histill.rpc.tracing import trace_with

if TYPE_CHECKING:
    from collections.abc import Iterator

# How an image is computed: with those of others, by itself, or tile by tile.
WAYS: dict[str, tuple[dict[str, Any], int]] = {
    "joined": ({"max_batch": 4}, 8),
    "alone": ({"max_batch": 1}, 8),
    "tiles": ({"max_batch": 4}, 96),
}


@pytest.fixture
def told() -> Iterator[InMemorySpanExporter]:
    """What has been told of spans in this process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_with(Spans(provider.get_tracer("test")))
    yield exporter
    trace_with(None)


class Request:
    """One request of a call, computed in one of the ways."""

    def __init__(self, way: str) -> None:
        limits, side = WAYS[way]
        self.the = Setting(**limits)
        self.computer = Computer(self.the.admission, tile=64, overlap=16, batcher=self.the.batcher)
        self.image = image(1, side, side)

    async def answer(self, call: Call) -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        spans = Spans(provider.get_tracer("test"))
        with spans.within(spans.begin("call")):
            watch = Watch()
            try:
                await self.computer.answer(
                    self.the.model, self.image, [MASK], watch=watch, call=call
                )
            finally:
                watch.trace(self.the.model)


def seconds(told: InMemorySpanExporter) -> dict[str, float]:
    """What each span says of its stage, and it must have lasted as long."""
    found = {}
    for each in told.get_finished_spans():
        assert each.start_time is not None
        assert each.end_time is not None
        found[each.name] = (each.end_time - each.start_time) / 1e9
        assert (each.attributes or {})["histill.seconds"] == pytest.approx(
            found[each.name], abs=0.01
        )
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_a_deadline_that_passes_in_the_queue_shows_the_queue(
    told: InMemorySpanExporter, way: str
) -> None:
    """All of its time is there, and nothing was computed."""
    request = Request(way)
    async with request.the.busy():
        with pytest.raises(DeadlineExceededError):
            await request.answer(Call(time.monotonic() + 0.2))
    found = seconds(told)
    assert found.keys() == {"queue"}
    assert found["queue"] > 0.15


@pytest.mark.parametrize("way", WAYS)
async def test_a_caller_who_goes_away_leaves_the_stage_that_it_was_in(
    told: InMemorySpanExporter, way: str
) -> None:
    """In the queue that alone; later both, and the queue ends where computing begins."""
    request = Request(way)
    async with request.the.busy():
        waiting = asyncio.create_task(request.answer(Call()))
        await asyncio.sleep(0.1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert seconds(told).keys() == {"queue"}
    told.clear()
    request.the.runtime.gate.clear()
    computing = asyncio.create_task(request.answer(Call()))
    while not request.the.runtime.runs:  # noqa: ASYNC110 - a thread appends to it
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    computing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await computing
    request.the.runtime.gate.set()
    found = seconds(told)
    assert found.keys() == {"queue", "compute"}
    assert found["compute"] > 0.15 > found["queue"]


async def test_a_mistake_about_traces_keeps_no_answer_from_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every caller of the batch gets theirs, and the log says what went wrong."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("told")

    monkeypatch.setattr(batching, "tell_run", broken)
    the = Setting()
    with capture_logs() as logs:
        async with the.busy():
            asked = [the.ask(image(value)) for value in range(3)]
        assert values(await asyncio.wait_for(asyncio.gather(*asked), 10)) == [0, 1, 2]
    assert [line["event"] for line in logs] == ["run_not_traced"]
