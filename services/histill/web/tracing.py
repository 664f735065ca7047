"""The span of a request for the page's data, in the trace of whoever sends a traceparent.

Whether a key is right is not known here, so nobody's wish to have a trace kept counts for more than
the ratio; what is decided here holds in the services, for calls whose keys they know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from histill.rpc.tracing import tracing
from histill.web.measures import method_of, route_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from histill.rpc.spans import Spans

# Probes and the page's own files would be most of all traces.
_PREFIX = "/api/"
_FAULT = 500


def traced(app: ASGIApp) -> ASGIApp:
    """The application, traced; as it is where tracing is off."""
    spans = tracing()
    return Traced(app, spans) if spans else app


class Traced:
    """ASGI middleware around everything else.

    Args:
        app: What it wraps.
        spans: Makes spans.
    """

    def __init__(self, app: ASGIApp, spans: Spans) -> None:
        self._app = app
        self._spans = spans

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http" or not scope["path"].startswith(_PREFIX):
            await self._app(scope, receive, send)
            return
        from opentelemetry.trace import SpanKind

        from histill.rpc.spans import TRACEPARENT, fail, remote

        parent = self._spans.doubted(remote(Headers(scope=scope).get(TRACEPARENT, "")))
        method = method_of(scope)
        span = self._spans.begin(
            method,
            kind=SpanKind.SERVER,
            parent=parent,
            attributes={"http.request.method": method},
        )
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with self._spans.within(span):
                await self._app(scope, receive, sending)
        finally:
            route = route_of(scope)
            span.update_name(f"{method} {route}")
            span.set_attribute("http.route", route)
            if status:
                span.set_attribute("http.response.status_code", status)
            if not status or status >= _FAULT:
                fail(span, str(status or "unanswered"))
            span.end()
