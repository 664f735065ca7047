"""Which requests for the page's data are traced, and in whose trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from histill.rpc.spans import Spans
from histill.web.tracing import Traced

if TYPE_CHECKING:
    from starlette.requests import Request

# Of whoever chooses its id so that a sampler by the id keeps it.
TRACE = "0af7651916cd43dd0000000000000001"
SAMPLED = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}


async def asked(
    ratio: float, headers: dict[str, str], times: int = 1
) -> tuple[list[str], list[str]]:
    """Traces of the spans that were kept, and what the page's own calls would say of theirs."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans = Spans(provider.get_tracer("test"), ratio=ratio)
    passed_on = []

    async def models(_: Request) -> PlainTextResponse:
        passed_on.append(spans.traceparent())
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/api/models", models)])
    page = httpx.ASGITransport(Traced(app, spans))
    async with httpx.AsyncClient(transport=page, base_url="http://page") as client:
        for _ in range(times):
            assert (await client.get("/api/models", headers=headers)).status_code == 200
    kept = [f"{each.context.trace_id:032x}" for each in exporter.get_finished_spans()]
    return kept, passed_on


@pytest.mark.parametrize(("ratio", "flag"), [(0.0, "00"), (1.0, "01")])
async def test_nobody_who_opens_the_page_decides_what_is_kept(ratio: float, flag: str) -> None:
    """The ratio does, and the services are told what it was; the trace is the caller's."""
    kept, (passed_on,) = await asked(ratio, SAMPLED)
    assert kept == [TRACE] * int(ratio)
    assert passed_on.split("-")[1] == TRACE
    assert passed_on.endswith(flag)


async def test_a_share_of_them_is_kept_whatever_their_ids() -> None:
    """One who sends the same id again and again is kept as often as others."""
    kept, passed_on = await asked(0.5, SAMPLED, times=100)
    # Outside of it once in 10^9 runs.
    assert 20 < len(kept) < 80
    assert sum(each.endswith("01") for each in passed_on) == len(kept)


async def test_who_wants_nothing_kept_has_nothing_kept() -> None:
    """At whatever ratio."""
    kept, (passed_on,) = await asked(1.0, {"traceparent": SAMPLED["traceparent"][:-1] + "0"})
    assert kept == []
    assert passed_on.endswith("00")
