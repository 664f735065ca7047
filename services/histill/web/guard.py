"""Headers that every answer carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# OpenSeadragon puts one element of style into the page; what is within may be this and no else.
VIEWER_STYLE = "sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE="
_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' '{VIEWER_STYLE}'; "
    "img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
        "magnetometer=(), microphone=(), midi=(), payment=(), usb=()"
    ),
}
_OURS = frozenset({"same-origin", "none"})


class Guard:
    """ASGI middleware: only our own scripts run, nothing is framed, results are not cached.

    Args:
        app: What it wraps.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                # A report has one of its own.
                headers.setdefault("Content-Security-Policy", _POLICY)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["type"] == "http" and _comes_from_another_site(scope):
            refusal = PlainTextResponse("the page sends this itself, or nobody does", 403)
            await refusal(scope, receive, sending)
            return
        await self._app(scope, receive, sending)


def _comes_from_another_site(scope: Scope) -> bool:
    """Whether another site's page makes a browser ask for data, or change something here.

    Browsers say where a request comes from; what is no browser need not. A link from elsewhere to
    one of the page's own addresses is fine.
    """
    headers = Headers(scope=scope)
    changes = scope["method"] not in {"GET", "HEAD", "OPTIONS"}
    if (site := headers.get("sec-fetch-site")) is not None:
        return site not in _OURS and (changes or scope["path"].startswith("/api/"))
    origin = headers.get("origin")
    return changes and origin is not None and origin.partition("://")[2] != headers.get("host")
