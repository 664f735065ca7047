"""A TCP proxy that misbehaves on command: between a server and its clients, as a bad network."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
Mode = Literal["pass", "refuse", "hang", "slow", "full"]
_CHUNK = 1 << 14
_SLOW_S = 0.05  # for each 4 KiB: some 80 KB a second
# What S3 servers answer when their disks are full.
_FULL_BODY = b"<Error><Code>XMinioStorageFull</Code><Message>no space left</Message></Error>"
_FULL = (
    b"HTTP/1.1 507 Insufficient Storage\r\nContent-Type: application/xml\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL_BODY), _FULL_BODY)
)


@dataclass
class Proxy:
    """Forwards a port to another.

    Attributes:
        port: Where it listens.
        target: Where it forwards to.
        mode: ``refuse`` closes at once, ``hang`` takes and answers nothing, ``slow`` trickles,
            ``full`` answers each PUT like a store without room.
        cut_after: Bytes from the client after which the next connection is cut, once.
    """

    port: int
    target: int
    mode: Mode = "pass"
    cut_after: int | None = None

    async def serve(self) -> None:
        """Serves until it is cancelled."""
        server = await asyncio.start_server(self._connected, HOST, self.port)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.mode != "refuse":
                await self._forward(reader, writer)
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(HOST, self.target)
        try:
            done, left = await asyncio.wait(
                {
                    asyncio.ensure_future(self._pump(reader, up_writer, writer)),
                    asyncio.ensure_future(self._pump(up_reader, writer, None)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in left:
                task.cancel()
            await asyncio.gather(*done, *left, return_exceptions=True)
        finally:
            up_writer.transport.abort()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        back: asyncio.StreamWriter | None,
    ) -> None:
        """Passes bytes on; ``back`` goes to who sent them, for answers of our own."""
        passed = 0
        while data := await source.read(_CHUNK if self.mode != "slow" else 4096):
            while self.mode == "hang":  # noqa: ASYNC110 - set by another thread
                await asyncio.sleep(0.05)
            if self.mode == "slow":
                await asyncio.sleep(_SLOW_S)
            if self.mode == "refuse":
                return
            if back and self.mode == "full" and data.startswith((b"PUT ", b"POST ")):
                back.write(_FULL)
                await back.drain()
                return
            passed += len(data)
            if back and self.cut_after is not None and passed > self.cut_after:
                self.cut_after = None
                return
            sink.write(data)
            await sink.drain()


@contextlib.contextmanager
def proxied(*proxies: Proxy) -> Iterator[None]:
    """Runs proxies in a thread of their own while the block runs."""
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with asyncio.TaskGroup() as group:
            for proxy in proxies:
                group.create_task(proxy.serve())

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)
        loop.run_until_complete(_end_all())
        loop.close()

    serving = loop.create_task(serve())
    thread = threading.Thread(target=run, name="proxies", daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(10)


async def _end_all() -> None:
    """Ends the connections that are still open."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
