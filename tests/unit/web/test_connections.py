"""Who is too slow, or says too much before anything is asked, on real connections."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from histill.web import connections
from histill.web.connections import MOST_HEAD_BYTES, Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PIECE = bytes(1 << 20)
HEAD_S, TAKEN_S, IDLE_S = 0.4, 1.0, 1


class Answers:
    """Answers with a word after a while; without one, with as much as is taken."""

    def __init__(self, word: bytes = b"", *, wait_s: float = 0.0) -> None:
        self.word = word
        self.wait_s = wait_s
        self.left = asyncio.Event()

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(self.wait_s)
        length = [(b"content-length", b"%d" % len(self.word))] if self.word else []
        await send({"type": "http.response.start", "status": 200, "headers": length})
        if self.word:
            await send({"type": "http.response.body", "body": self.word})
            return
        gone = asyncio.create_task(self.watch(receive))
        while not self.left.is_set():
            await send({"type": "http.response.body", "body": PIECE, "more_body": True})
        await gone

    async def watch(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[int]:
    """The port where an application is served."""
    config = uvicorn.Config(
        app,
        log_config=None,
        lifespan="off",
        h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        timeout_keep_alive=IDLE_S,
    )
    config.load()
    loop = asyncio.get_running_loop()
    state = ServerState()
    server = await loop.create_server(lambda: Connection(config, state, {}), HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in list(state.connections):
            each.transport.abort()
        await asyncio.gather(*state.tasks, return_exceptions=True)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, and its end."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has as long as in truth."""
    monkeypatch.setattr(connections, "_HEAD_S", HEAD_S)
    monkeypatch.setattr(connections, "_TAKEN_S", TAKEN_S)


async def ended(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the other side ends the connection."""
    found = b""
    with suppress(ConnectionError):
        async with asyncio.timeout(5):
            while piece := await reader.read(1 << 16):
                found += piece
    return found


@pytest.mark.parametrize("begun", [b"", REQUEST[:-9]])
@pytest.mark.parametrize("before", [False, True])
async def test_who_says_nothing_is_cut_off(begun: bytes, *, before: bool) -> None:
    """Neither a connection nor a request that has begun is waited for without end."""
    async with served(Answers(b"fine")) as port, connected(port) as (reader, writer):
        if before:
            writer.write(REQUEST)
            await reader.readuntil(b"fine")
        writer.write(begun)
        assert not await ended(reader)


async def test_who_takes_nothing_is_cut_off() -> None:
    """The answer's maker hears of it, and stops."""
    app = Answers()
    async with served(app) as port:
        with socket.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(reader, (HOST, port))
            await loop.sock_sendall(reader, REQUEST)
            async with asyncio.timeout(10):
                await app.left.wait()


async def test_who_takes_what_comes_is_not() -> None:
    """However long an answer is."""
    app = Answers()
    async with served(app) as port, connected(port) as (reader, writer):
        writer.write(REQUEST)
        async with asyncio.timeout(10):
            for _ in range(10):
                await reader.readexactly(8 << 20)
                await asyncio.sleep(TAKEN_S / 8)
        assert not app.left.is_set()


async def test_an_answer_may_be_long_in_the_making() -> None:
    """Only those who ask have to hurry, with each request."""
    app = Answers(b"fine", wait_s=3 * HEAD_S)
    async with served(app) as port, connected(port) as (reader, writer):
        for _ in range(2):
            writer.write(REQUEST)
            async with asyncio.timeout(5):
                assert await reader.readuntil(b"fine")


async def test_headers_have_an_end() -> None:
    """Too many are refused while they come."""
    async with served(Answers(b"fine")) as port, connected(port) as (reader, writer):
        writer.write(REQUEST[:-2] + b"X: " + b"x" * (MOST_HEAD_BYTES // 2) + b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert await reader.readuntil(b"fine")
        writer.write(REQUEST[:-2] + b"X: " + b"x" * MOST_HEAD_BYTES)
        assert (await ended(reader))[:12] == b"HTTP/1.1 400"
