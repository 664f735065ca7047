"""Images that come in chunks: kept within a bound, in files that have no name."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from histill.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from histill.ml.nameless import nameless_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import BinaryIO

CHUNK_BYTES = 1 << 20


class Uploads:
    """Memory for files that are on their way in.

    Args:
        max_file_bytes: Most bytes of one file.
        max_bytes: Most bytes of all files at a time.
        idle_s: Longest wait for a chunk.
        folder: Where their bytes are; in memory by default.
    """

    def __init__(
        self, *, max_file_bytes: int, max_bytes: int, idle_s: float, folder: str = ""
    ) -> None:
        self._max_file_bytes = max_file_bytes
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._folder = folder
        self._announced = 0

    @asynccontextmanager
    async def receive(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[BinaryIO]:
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
            file = nameless_file(self._folder)
            try:
                await self._fill(file, chunks, size)
                yield file
            finally:
                # Its pages go with it, which takes a while.
                await asyncio.to_thread(file.close)
        finally:
            self._announced -= size

    async def _fill(self, file: BinaryIO, chunks: AsyncIterator[bytes], size: int) -> None:
        try:
            while True:
                async with asyncio.timeout(self._idle_s):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                if len(chunk) > CHUNK_BYTES:
                    raise InvalidArgumentError.of("chunk", f"{len(chunk)} bytes; 1 MiB is the most")
                await asyncio.to_thread(file.write, chunk)
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
