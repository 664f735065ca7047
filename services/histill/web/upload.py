"""The file in a request's body, piece by piece as it comes: none is held whole."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from histill.core.errors import InvalidArgumentError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import Receive

# Small enough that a slow sender is never silent for long, large enough to be worth a message.
_PIECE_BYTES = 256 << 10


class Upload:
    """A request's body.

    Args:
        request: Whose body nobody else reads.
        most: Bytes that it may have.

    Raises:
        HTTPException: It does not say how long it is.
        InvalidArgumentError: It is empty.
        ResourceExhaustedError: It is longer.
    """

    def __init__(self, request: Request, *, most: int) -> None:
        length = request.headers.get("content-length", "")
        # Of both, the length is not the one that counts.
        if not length.isdecimal() or "transfer-encoding" in request.headers:
            raise HTTPException(411, "send the file's bytes with a Content-Length, not in chunks")
        self.size = int(length)
        if not self.size:
            raise InvalidArgumentError.of("image", "is empty; choose another file")
        if self.size > most:
            raise ResourceExhaustedError(
                f"the file has {_size(self.size)}, more than the {_size(most)} that the page "
                "takes; use the command line, or a lower level of the slide"
            )
        self._receive: Receive = request.receive

    async def pieces(self) -> AsyncIterator[bytes]:
        """What comes, in order.

        Raises:
            ClientDisconnect: The sender has gone.
        """
        waiting, more = bytearray(), True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            waiting += message.get("body", b"")
            more = message.get("more_body", False)
            while len(waiting) >= _PIECE_BYTES or (waiting and not more):
                yield bytes(waiting[:_PIECE_BYTES])
                del waiting[:_PIECE_BYTES]

    async def gone(self) -> None:
        """Returns when the sender has gone, or has had the whole answer; after the last piece."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Places:
    """Uploads in work at a time: the last place is for those who have none.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: Counter[str] = Counter()

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """Holds a place for the block.

        Args:
            caller: Who asks for it; whoever has one already does not get the last.

        Raises:
            ResourceExhaustedError: There is none.
        """
        if not self._free:
            raise ResourceExhaustedError("other images are in work", retry_after_s=1.0)
        if self._held[caller] and self._free == 1:
            raise ResourceExhaustedError("your other images are in work", retry_after_s=1.0)
        self._free -= 1
        self._held[caller] += 1
        try:
            yield
        finally:
            self._free += 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


def _size(count: int) -> str:
    return f"{count / (1 << 20):,.1f} MiB" if count >= 1 << 20 else f"{count:,} bytes"
