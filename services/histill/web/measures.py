"""Prometheus metrics of the page: how often each route is asked, what it says, how soon."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter(
    "histill_web_requests_total", "Requests by what was answered.", ["route", "method", "status"]
)
SECONDS = Histogram(
    "histill_web_request_seconds",
    "Seconds from a request until its answer begins.",
    ["route", "method"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
# What is not among them is one more label at most, whoever makes names up.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "other"
_UNANSWERED = "none"
# Of a service that failed, or of the page itself.
_FAILURES = ("500", "502", "503", "504")


def expect(routes: Iterable[BaseRoute]) -> None:
    """Shows the failures of every route at 0: the first one is an increase then."""
    for route in routes:
        for method in (getattr(route, "methods", None) or {"GET"}) - {"HEAD"}:
            for status in _FAILURES:
                REQUESTS.labels(getattr(route, "path", _OTHER), method, status)


class Measured:
    """ASGI middleware around everything else, so that crashes and refusals count too.

    Args:
        app: What it wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, seconds = time.perf_counter(), _UNANSWERED, 0.0

        async def sending(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = str(message["status"]), time.perf_counter() - started
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            labels = route_of(scope), method_of(scope)
            REQUESTS.labels(*labels, status).inc()
            if status != _UNANSWERED:
                SECONDS.labels(*labels).observe(seconds)


def method_of(scope: Scope) -> str:
    """The method of a request; ``other`` for any that HTTP does not have."""
    return scope["method"] if scope["method"] in _METHODS else _OTHER


def route_of(scope: Scope) -> str:
    """The template of the route, such as ``/api/jobs/{id}/events``: never what is asked for."""
    # The router leaves its choice in the scope; refusals before it leave none.
    return getattr(scope.get("route"), "path", _OTHER)
