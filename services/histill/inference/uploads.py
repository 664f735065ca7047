"""Images that come in chunks: kept in memory, within a bound, and never written to disk."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from histill.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHUNK_BYTES = 1 << 20


class Uploads:
    """Memory for files that are on their way in.

    Args:
        max_file_bytes: Most bytes of one file.
        max_bytes: Most bytes of all files at a time.
        idle_s: Longest wait for a chunk.
    """

    def __init__(self, *, max_file_bytes: int, max_bytes: int, idle_s: float) -> None:
        self._max_file_bytes = max_file_bytes
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._announced = 0

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[io.BytesIO]:
        """A file of the announced size, held until the block ends.

        Args:
            chunks: At most 1 MiB each.
            size: Announced number of bytes.

        Raises:
            InvalidArgumentError: More or fewer bytes come than were announced.
            ResourceExhaustedError: It is too large, or too many are on their way.
            DeadlineExceededError: No chunk comes in time.
        """
        if size < 1:
            raise InvalidArgumentError.of("header.size_bytes", f"{size} is not a file's size")
        if size > self._max_file_bytes:
            raise ResourceExhaustedError(
                f"the file has {size} bytes, more than the {self._max_file_bytes} accepted"
            )
        if self._announced + size > self._max_bytes:
            raise ResourceExhaustedError("too many files are on their way in", retry_after_s=2.0)
        self._announced += size
        try:
            yield await self._filled(chunks, size)
        finally:
            self._announced -= size

    async def _filled(self, chunks: AsyncIterator[bytes], size: int) -> io.BytesIO:
        file = io.BytesIO()
        try:
            while True:
                async with asyncio.timeout(self._idle_s):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                if len(chunk) > CHUNK_BYTES:
                    raise InvalidArgumentError.of("chunk", f"{len(chunk)} bytes; 1 MiB is the most")
                file.write(chunk)
                if file.tell() > size:
                    raise InvalidArgumentError.of("chunk", f"more than the {size} bytes announced")
        except TimeoutError:
            raise DeadlineExceededError(
                f"no chunk came for {self._idle_s:g} s after {file.tell()} of {size} bytes"
            ) from None
        if file.tell() < size:
            raise InvalidArgumentError.of(
                "chunk", f"the stream ended after {file.tell()} of the {size} bytes announced"
            )
        file.seek(0)
        return file
