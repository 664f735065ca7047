"""What the page counts: templates of routes, and never what is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from histill.web.measures import Measured, expect

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def one(_: Request) -> Response:
    return PlainTextResponse("x")


async def crash(_: Request) -> Response:
    raise RuntimeError("a fault of ours")


APP = Starlette(
    routes=[
        Route("/measured/{id}", one),
        Route("/crashes", crash),
        Mount("/files", Route("/{name}", one)),
    ]
)


def count(route: str, method: str, status: str) -> float | None:
    labels = {"route": route, "method": method, "status": status}
    return REGISTRY.get_sample_value("histill_web_requests_total", labels)


@pytest.mark.parametrize(
    ("method", "path", "counted"),
    [
        ("GET", "/measured/patient-17", ("/measured/{id}", "GET", "200")),
        ("POST", "/measured/patient-17", ("/measured/{id}", "POST", "405")),
        ("BREW", "/measured/patient-17", ("/measured/{id}", "other", "405")),
        ("GET", "/patient-17", ("other", "GET", "404")),
        ("GET", "/files/patient-17", ("/files", "GET", "200")),
        ("GET", "/crashes", ("/crashes", "GET", "500")),
    ],
)
async def test_requests_are_counted_by_route(
    method: str, path: str, counted: tuple[str, str, str]
) -> None:
    """Crashes and refusals too; names of others make no label."""
    before = count(*counted) or 0
    transport = httpx.ASGITransport(app=Measured(APP), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
        await client.request(method, path)
    assert count(*counted) == before + 1
    labels = dict(zip(("route", "method"), counted[:2], strict=True))
    assert REGISTRY.get_sample_value("histill_web_request_seconds_count", labels)
    assert not any(
        "patient" in value
        for family in REGISTRY.collect()
        for sample in family.samples
        for value in sample.labels.values()
    )


def test_failures_are_told_before_the_first() -> None:
    """Each route shows them at 0."""
    expect(APP.routes)
    for status in ("500", "502", "503", "504"):
        assert count("/measured/{id}", "GET", status) == 0
