"""Images that come in chunks, from clients that mean well and others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from histill.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from histill.inference.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def sent(*chunks: bytes, pause_s: float = 0) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
        await asyncio.sleep(pause_s)


def uploads(*, idle_s: float = 5, bytes_per_s: int = 1000) -> Uploads:
    return Uploads(max_file_bytes=10, max_bytes=30, idle_s=idle_s, bytes_per_s=bytes_per_s)


async def test_what_was_announced_comes() -> None:
    """All of it, from its beginning."""
    async with uploads().receive(sent(b"abc", b"de"), 5, project="p") as file:
        assert file.read() == b"abcde"


async def test_an_empty_chunk_is_refused() -> None:
    """It brings nothing, and would start the longest wait anew."""
    with pytest.raises(InvalidArgumentError, match="chunk: 0 bytes"):
        async with uploads().receive(sent(b"abc", b""), 5, project="p"):
            pass


async def test_whoever_crawls_is_refused() -> None:
    """A byte now and then, each within the longest wait, is too slow on the whole."""
    slow = uploads(idle_s=0.1)
    with pytest.raises(DeadlineExceededError, match="too slow"):
        async with slow.receive(sent(*[b"x"] * 10, pause_s=0.04), 10, project="p"):
            pass
    with pytest.raises(DeadlineExceededError, match=r"no chunk came for 0\.1 s"):
        async with uploads(idle_s=0.1, bytes_per_s=1).receive(
            sent(b"x", pause_s=5), 10, project="p"
        ):
            pass


async def test_one_project_leaves_room_for_another() -> None:
    """Half of what may come at a time is the most of one."""
    made = uploads()
    async with made.receive(sent(b"x" * 10), 10, project="p"):
        with pytest.raises(ResourceExhaustedError):
            async with made.receive(sent(b"x" * 6), 6, project="p"):
                pass
        async with (
            made.receive(sent(b"x" * 5), 5, project="p"),
            made.receive(sent(b"x" * 10), 10, project="q"),
        ):
            pass
    async with made.receive(sent(b"x" * 10), 10, project="p"):
        pass
