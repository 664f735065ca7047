"""Prometheus metrics over HTTP, in a thread of their own, for few connections of few seconds.

The server that comes with prometheus_client starts a thread for each connection and waits for
its request for ever, so whoever reaches the port could take every thread there is.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CONNECTIONS = 16
REQUEST_S = 5.0
_MOST_HEADER_BYTES = 8192


def start_metrics(
    port: int, host: str, *, most: int = MOST_CONNECTIONS, request_s: float = REQUEST_S
) -> None:
    """Serves this process's metrics as long as it lives.

    Args:
        port: Where it listens.
        host: Where it listens.
        most: Connections at once; one more closes the oldest, so that the silent ones of a
            stranger keep nobody out.
        request_s: From a connection's begin to the end of its answer.

    Raises:
        OSError: The port is taken, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    serving = _serve(listening, most, request_s)
    threading.Thread(target=asyncio.run, args=(serving,), name="metrics", daemon=True).start()


async def _serve(listening: socket.socket, most: int, request_s: float) -> None:
    # By age.
    open_now: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, ValueError, TimeoutError):
            async with asyncio.timeout(request_s):
                writer.write(_answer(await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
                writer.close()
                await writer.wait_closed()

    async def alone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            # Nothing is waited for: what was not taken in time is thrown away.
            writer.transport.abort()

    def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(open_now) >= most:
            oldest = next(iter(open_now))
            # Also here: a task that has not begun yet does nothing at its end.
            open_now.pop(oldest).transport.abort()
            oldest.cancel()
        task = asyncio.ensure_future(alone(reader, writer))
        open_now[task] = writer
        task.add_done_callback(lambda ended: open_now.pop(ended, None))

    server = await asyncio.start_server(opened, sock=listening, limit=_MOST_HEADER_BYTES)
    await server.serve_forever()


def _answer(request: bytes) -> bytes:
    first, _, rest = request.decode("latin-1").partition("\r\n")
    method = first.partition(" ")[0]
    if method not in {"GET", "HEAD"}:
        return _response("405 Method Not Allowed", "text/plain", b"")
    lines = (line.partition(":") for line in rest.split("\r\n"))
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    encode: Callable[..., bytes]
    encode, kind = choose_encoder(headers.get("accept", ""))
    body = encode(REGISTRY)
    return _response("200 OK", kind, body, body_too=method == "GET")


def _response(status: str, kind: str, body: bytes, *, body_too: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (body if body_too else b"")
