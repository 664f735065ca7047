"""A long way between clients and a server: bytes that take their time in both directions."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 16


@contextmanager
def distant(host: str, server: str, port: int, *, seconds: float) -> Iterator[None]:
    """Serves ``host`` by ``server``, on the same port of both.

    Args:
        host: Where it listens.
        server: Where it connects to.
        port: Of both.
        seconds: One way.
    """
    loop = asyncio.new_event_loop()
    listening, stop = threading.Event(), asyncio.Event()
    open_ones: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_joined(reader, writer, server, port, seconds))
        open_ones.add(task)
        task.add_done_callback(open_ones.discard)

    async def serve() -> None:
        async with await asyncio.start_server(connected, host, port):
            listening.set()
            await stop.wait()
            for task in open_ones:
                task.cancel()
            await asyncio.gather(*open_ones, return_exceptions=True)
        await asyncio.sleep(0)  # for sockets that close in the loop's next turn

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert listening.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


async def _joined(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server: str,
    port: int,
    seconds: float,
) -> None:
    """Carries what comes both ways until one side closes."""
    ends = [writer]
    try:
        far_reader, far_writer = await asyncio.open_connection(server, port)
        ends.append(far_writer)
        async with asyncio.TaskGroup() as ways:
            ways.create_task(_carry(reader, far_writer, seconds))
            ways.create_task(_carry(far_reader, writer, seconds))
    except* OSError:
        pass
    finally:
        for end in ends:
            end.transport.abort()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while data := await source.read(_CHUNK):
        loop.call_later(seconds, sink.write, data)
    await asyncio.sleep(seconds)
    raise ConnectionResetError  # also the other way ends
