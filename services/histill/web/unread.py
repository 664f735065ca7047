"""Answers that are ready before the request has come, so that browsers hear them all the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What is thrown away of a body, and for how long, before its sender is cut off.
_MOST_BYTES = 256 << 20
_MOST_S = 30.0


class Unread:
    """ASGI middleware: reads on while an early answer is on its way.

    Browsers read an answer when they have sent everything. A connection that is closed before
    loses the answer, and the page could only say that something broke off.

    Args:
        app: What it wraps.
        most: Bytes that are read and thrown away.
        seconds: For how long.
    """

    def __init__(self, app: ASGIApp, *, most: int = _MOST_BYTES, seconds: float = _MOST_S) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] != "http" or not _has_body(scope):
            await self._app(scope, receive, send)
            return
        # Who asks whether to send a body sends none when the answer comes instead.
        asks_first = "expect" in Headers(scope=scope)
        read, begun = False, False

        async def receiving() -> Message:
            nonlocal read, begun
            message = await receive()
            begun = True
            read = read or not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and not read:
                MutableHeaders(scope=message)["Connection"] = "close"
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and not read and (begun or not asks_first):
                await send({**message, "more_body": True})
                await self._read_on(receiving, lambda: read)
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        await self._app(scope, receiving, sending)

    async def _read_on(self, receive: Receive, done: Callable[[], bool]) -> None:
        left = self._most
        try:
            async with asyncio.timeout(self._seconds):
                while not done() and left > 0:
                    left -= len((await receive()).get("body", b""))
        except TimeoutError:
            pass


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
