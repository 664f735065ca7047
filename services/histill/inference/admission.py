"""How much is let in, of whom, and how much computes at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from histill.core.errors import DeadlineExceededError, ResourceExhaustedError
from histill.inference.slots import Slots

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from histill.inference.call import Call

T = TypeVar("T")
# Weight of the newest computation in the mean that waiting callers are told.
_NEWEST = 0.2
_SOONEST_S = 0.1  # before which nobody is asked to come back


class Admission:
    """Bounds on requests, computations and large images.

    Args:
        workers: Computations at a time, each on a thread of its own.
        max_queue: Requests that may be inside beyond that; as many urgent ones besides.
        max_per_project: Requests of one project that may be inside; 0 sets no bound.

    Attributes:
        workers: Computations at a time.
    """

    def __init__(self, *, workers: int, max_queue: int, max_per_project: int = 0) -> None:
        self._most = workers + max_queue
        self._most_of_project = max_per_project
        self.workers = workers
        self._inside: Counter[bool] = Counter()
        self._of_project: Counter[str] = Counter()
        self._slots = Slots(workers)
        self._large = Slots(workers)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="compute")
        self._mean_s = 0.1

    @contextmanager
    def admitted(self, call: Call) -> Iterator[None]:
        """Holds a place for the whole of a request.

        Raises:
            ResourceExhaustedError: Every place, or every place of the project, is taken; says
                when to come back.
            DeadlineExceededError: Those who are first take longer than the caller waits.
        """
        self._check(call)
        self._inside[call.urgent] += 1
        self._of_project[call.project] += 1
        try:
            yield
        finally:
            self._inside[call.urgent] -= 1
            self._of_project[call.project] -= 1
            if not self._of_project[call.project]:
                del self._of_project[call.project]

    def _check(self, call: Call) -> None:
        inside, own = self._inside[call.urgent], self._of_project[call.project]
        if self._most_of_project and own >= self._most_of_project:
            raise ResourceExhaustedError(
                f"{own} requests of project {call.project} are being worked on or wait, which is "
                "all that it may have (HISTILL_INFERENCE__MAX_PER_PROJECT)",
                retry_after_s=self._later(own),
            )
        if inside >= self._most:
            raise ResourceExhaustedError(
                f"{inside} requests are being worked on or wait, which is all that may "
                "(HISTILL_INFERENCE__MAX_QUEUE)",
                retry_after_s=self._later(inside),
            )
        # Of the others only: were its own time counted, one slow model could make the
        # service refuse all that follows, and never learn that it is quick again.
        wait = self._wait_s(urgent=call.urgent)
        if call.left_s is not None and wait > call.left_s:
            raise DeadlineExceededError(
                f"about {wait:.2g} s of other work comes first, and the deadline leaves "
                f"{max(0.0, call.left_s):.2g} s; nothing was done"
            )

    def _later(self, ahead: int) -> float:
        return max(_SOONEST_S, self._mean_s * ahead / self.workers)

    def _wait_s(self, *, urgent: bool) -> float:
        """Seconds until a newcomer would have a slot: those who compute are half done."""
        if self._slots.free:
            return 0.0
        return self._mean_s * (self._slots.ahead(urgent=urgent) / self.workers + 0.5)

    @asynccontextmanager
    async def large(self, call: Call) -> AsyncIterator[None]:
        """Held while an image of many tiles is in memory: as many as there are workers.

        Raises:
            DeadlineExceededError: The deadline passed before there was room.
        """
        await self._large.acquire(call)
        try:
            yield
        finally:
            self._large.release()

    async def compute(self, work: Callable[[], T], call: Call) -> tuple[T, float]:
        """Runs ``work`` on a compute thread when its turn comes.

        A cancelled caller gives its place in the queue up at once; work that has begun
        keeps its slot until it ends, since a thread cannot be stopped.

        Args:
            work: Blocks for as long as one run of a network takes.
            call: Its deadline, after which nothing begins, and its priority.

        Returns:
            The result, and the seconds spent waiting for a slot.

        Raises:
            DeadlineExceededError: The deadline passed before the work began.
        """
        asked = time.monotonic()
        await self._slots.acquire(call)
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
