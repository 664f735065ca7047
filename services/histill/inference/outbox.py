"""What is on its way to a client: little at a time, and not for ever."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    Context = grpc.aio.ServicerContext[Any, Any]

T = TypeVar("T")
# On their way: the loop itself would forget them.
_STATUSES: set[asyncio.Future[Any]] = set()


class Outbox(Generic[T]):
    """Makes the work wait for a client that reads slowly, rather than the memory grow.

    Args:
        most: Pieces that wait for the client.
    """

    def __init__(self, *, most: int) -> None:
        self._room = asyncio.Semaphore(most)
        self._pieces: asyncio.Queue[T | None] = asyncio.Queue()

    async def put(self, piece: T) -> None:
        """Adds a piece when there is room for it."""
        await self._room.acquire()
        self._pieces.put_nowait(piece)

    def close(self) -> None:
        """Nothing more will come; needs no room."""
        self._pieces.put_nowait(None)

    async def taken(self) -> AsyncGenerator[T]:
        """The pieces, until it is closed."""
        while (piece := await self._pieces.get()) is not None:
            yield piece
            self._room.release()


@contextmanager
def ends_unless_taken(context: Context, seconds: float) -> Iterator[None]:
    """Ends the call that is being answered if the block, which hands a part out, takes longer.

    Nothing else ends a call whose client neither reads nor goes away.
    """
    call = asyncio.current_task()
    if call is None:
        raise RuntimeError("outside of a call")
    timer = asyncio.get_running_loop().call_later(seconds, _end, context, call, seconds)
    try:
        yield
    finally:
        timer.cancel()


def _end(context: Context, call: asyncio.Task[Any], seconds: float) -> None:
    # Its status waits for the client behind the parts that it did not take; the work ends now.
    words = f"no part of the answer was taken for {seconds:g} s"
    status = asyncio.ensure_future(context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, words))
    _STATUSES.add(status)
    status.add_done_callback(_told)
    call.cancel()


def _told(status: asyncio.Future[Any]) -> None:
    _STATUSES.discard(status)
    if not status.cancelled():
        status.exception()  # it is raised to end the handler, which was cancelled
