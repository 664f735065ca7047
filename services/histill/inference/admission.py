"""How much is let in, and how much computes at a time."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from histill.core.errors import DeadlineExceededError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")
# Weight of the newest computation in the mean that waiting callers are told.
_NEWEST = 0.2
_TOO_LATE = "the deadline passed before there was a turn to compute"


class Admission:
    """Bounds on requests, computations and large images.

    Args:
        workers: Computations at a time, each on a thread of its own.
        max_queue: Requests that may be inside beyond that.
    """

    def __init__(self, *, workers: int, max_queue: int) -> None:
        self._most = workers + max_queue
        self._workers = workers
        self._inside = 0
        self._slots = asyncio.Semaphore(workers)
        self._large = asyncio.Semaphore(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="compute")
        self._mean_s = 0.1

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Holds a place for the whole of a request.

        Raises:
            ResourceExhaustedError: Every place is taken; says when to come back.
        """
        if self._inside >= self._most:
            raise ResourceExhaustedError(
                f"{self._inside} requests are being worked on or wait, which is all that may",
                retry_after_s=max(0.1, self._mean_s * self._inside / self._workers),
            )
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def large(self, *, deadline: float | None) -> AsyncIterator[None]:
        """Held while an image of many tiles is in memory: as many as there are workers."""
        await _acquired(self._large, deadline)
        try:
            yield
        finally:
            self._large.release()

    async def compute(self, work: Callable[[], T], *, deadline: float | None) -> tuple[T, float]:
        """Runs ``work`` on a compute thread when its turn comes.

        A cancelled caller gives its place in the queue up at once; work that has begun
        keeps its slot until it ends, since a thread cannot be stopped.

        Args:
            work: Blocks for as long as one run of a network takes.
            deadline: ``time.monotonic()`` after which nobody wants the answer.

        Returns:
            The result, and the seconds spent waiting for a slot.

        Raises:
            DeadlineExceededError: The deadline passed before the work began.
        """
        asked = time.monotonic()
        await _acquired(self._slots, deadline)
        began = time.monotonic()
        loop = asyncio.get_running_loop()

        def done(ended: asyncio.Future[T]) -> None:
            # Looked at, so that asyncio does not report what a cancelled caller left.
            ended.exception()
            self._mean_s += _NEWEST * (time.monotonic() - began - self._mean_s)
            self._slots.release()

        running = loop.run_in_executor(self._threads, work)
        running.add_done_callback(done)
        # Shielded: a cancelled future would call back while its thread goes on.
        return await asyncio.shield(running), began - asked


async def _acquired(semaphore: asyncio.Semaphore, deadline: float | None) -> None:
    left = None if deadline is None else deadline - time.monotonic()
    # A timeout that has passed would still let a free semaphore through.
    if left is not None and left <= 0:
        raise DeadlineExceededError(_TOO_LATE)
    try:
        async with asyncio.timeout(left):
            await semaphore.acquire()
    except TimeoutError:
        raise DeadlineExceededError(_TOO_LATE) from None
