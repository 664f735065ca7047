"""Uploaded images: bounded, in memory, and gone with the request."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from histill.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from starlette.requests import Request

# Room for the other fields and the multipart frame.
_FRAME_BYTES = 64 << 10


@dataclass(frozen=True)
class Upload:
    """A form with one image: the file's bytes and the other fields."""

    image: bytes
    fields: dict[str, str]


class Uploads:
    """Reads forms, a few at a time.

    Args:
        max_bytes: Of one image.
        at_once: Forms that may be in memory.
        seconds: Longest time for one to come.
    """

    def __init__(self, *, max_bytes: int, at_once: int, seconds: float) -> None:
        self._max_bytes = max_bytes
        self._free = at_once
        self._seconds = seconds

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[Upload]:
        """The form of a request, held until the block ends.

        Raises:
            InvalidArgumentError: It is no multipart form with an ``image``.
            ResourceExhaustedError: It is too large, or others are in work.
            DeadlineExceededError: It does not come in time.
        """
        if not self._free:
            raise ResourceExhaustedError("other images are in work", retry_after_s=1.0)
        self._free -= 1
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    upload = await self._parsed(request)
            except TimeoutError:
                raise DeadlineExceededError(
                    f"the image did not come within {self._seconds:g} s (HISTILL_WEB__UPLOAD_S)"
                ) from None
            yield upload
        finally:
            self._free += 1

    async def _parsed(self, request: Request) -> Upload:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise InvalidArgumentError.of("image", "send a multipart form with a file of that name")
        parser = MultiPartParser(
            request.headers, self._bounded(request), max_files=1, max_fields=4, max_part_size=1024
        )
        # Never to disk: an image is in memory for the request and stored nowhere.
        parser.spool_max_size = self._max_bytes + _FRAME_BYTES
        try:
            form = await parser.parse()
        except MultiPartException as exc:
            raise InvalidArgumentError.of("form", exc.message) from exc
        try:
            image = form.get("image")
            if not isinstance(image, UploadFile):
                raise InvalidArgumentError.of("image", "there is none; send a file of that name")
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            return Upload(await image.read(), fields)
        finally:
            await form.close()

    async def _bounded(self, request: Request) -> AsyncGenerator[bytes]:
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > self._max_bytes + _FRAME_BYTES:
                raise ResourceExhaustedError(
                    f"the image has more than the {self._max_bytes >> 20} MiB that the page takes; "
                    "use the command line"
                )
            yield chunk
