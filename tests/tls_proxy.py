"""TLS in front of a server that speaks clear text, as a store of an own authority has it."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(frozen=True)
class TlsFront:
    """Where it listens, and the authority that signed its certificate."""

    port: int
    ca_file: Path


@contextmanager
def tls_in_front_of(port: int, folder: Path, *, name: str = "localhost") -> Iterator[TlsFront]:
    """Passes what comes through TLS on to a port of this machine.

    Args:
        port: Of the server in clear text.
        folder: Gets the authority's file.
        name: In the certificate.
    """
    authority = trustme.CA()
    ca_file = folder / "store-ca.crt"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    told: queue.SimpleQueue[tuple[int, Callable[[], object]]] = queue.SimpleQueue()
    thread = threading.Thread(target=asyncio.run, args=(_serve(port, context, told.put),))
    thread.start()
    own, stop = told.get(timeout=10)
    try:
        yield TlsFront(own, ca_file)
    finally:
        stop()
        thread.join(timeout=10)


async def _serve(
    port: int, context: ssl.SSLContext, tell: Callable[[tuple[int, Callable[[], object]]], None]
) -> None:
    """Serves until what it tells is called."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            # Cancelled at the end of the test, which asyncio's streams would tell as an error.
            with suppress(asyncio.CancelledError):
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            inner_writer.transport.abort()
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    own = server.sockets[0].getsockname()[1]
    tell((own, lambda: loop.call_soon_threadsafe(stopped.set)))
    await stopped.wait()
    server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()
