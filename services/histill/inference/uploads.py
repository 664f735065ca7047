"""Images that come in chunks: kept within a bound, in files that have no name."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError, ResourceExhaustedError
from histill.core.pace import MIN_BYTES_PER_S, Pace
from histill.inference import measures
from histill.inference.measures import Refusal
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
        bytes_per_s: Least rate on the whole, after ``idle_s``.
        folder: Where their bytes are; in memory by default.
    """

    def __init__(
        self,
        *,
        max_file_bytes: int,
        max_bytes: int,
        idle_s: float,
        bytes_per_s: int = MIN_BYTES_PER_S,
        folder: str = "",
    ) -> None:
        self._max_file_bytes = max_file_bytes
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._folder = folder
        self._bytes_per_s = bytes_per_s
        self._announced: Counter[str] = Counter()
        # One project's uploads leave room for another's, where files are not larger than that.
        self._max_of_one = max(max_file_bytes, max_bytes // 2)

    @asynccontextmanager
    async def receive(
        self, chunks: AsyncIterator[bytes], size: int, *, project: str
    ) -> AsyncIterator[BinaryIO]:
        """A file of the announced size, held until the block ends.

        Args:
            chunks: From one byte to 1 MiB each.
            size: Announced number of bytes.
            project: Whose it is; each has its share.

        Raises:
            InvalidArgumentError: More or fewer bytes come than were announced.
            ResourceExhaustedError: It is too large, or too many are on their way.
            DeadlineExceededError: No chunk comes in time, or they come too slowly.
        """
        if size < 1:
            raise InvalidArgumentError.of("header.size_bytes", f"{size} is not a file's size")
        if size > self._max_file_bytes:
            raise ResourceExhaustedError(
                f"the file has {size} bytes, more than the {self._max_file_bytes} accepted"
            )
        if (
            self._announced.total() + size > self._max_bytes
            or self._announced[project] + size > self._max_of_one
        ):
            measures.refused(Refusal.UPLOADS)
            raise ResourceExhaustedError("too many files are on their way in", retry_after_s=2.0)
        self._announced[project] += size
        try:
            file = nameless_file(self._folder)
            try:
                await self._fill(file, chunks, size)
                yield file
            finally:
                # Its pages go with it, which takes a while.
                await asyncio.to_thread(file.close)
        finally:
            self._announced[project] -= size
            if not self._announced[project]:
                del self._announced[project]

    async def _fill(self, file: BinaryIO, chunks: AsyncIterator[bytes], size: int) -> None:
        pace = Pace(self._idle_s, self._bytes_per_s)
        while (chunk := await pace.next(chunks, file.tell())) is not None:
            if not 0 < len(chunk) <= CHUNK_BYTES:
                raise InvalidArgumentError.of("chunk", f"{len(chunk)} bytes; send 1 to 1 MiB")
            await asyncio.to_thread(file.write, chunk)
            if file.tell() > size:
                raise InvalidArgumentError.of("chunk", f"more than the {size} bytes announced")
        if file.tell() < size:
            raise InvalidArgumentError.of(
                "chunk", f"the stream ended after {file.tell()} of the {size} bytes announced"
            )
        file.seek(0)
