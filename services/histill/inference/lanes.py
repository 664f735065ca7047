"""Threads for work that cannot be stopped, and slots that are held until it has ended."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from histill.inference.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.inference.call import Call

T = TypeVar("T")


def _nobody(_: float) -> None:
    """Seconds that nobody asked for."""


def nothing() -> None:
    """All that is done at a turn that is only waited for."""


class Lane:
    """So many pieces of work at a time, each on a thread of its own.

    Args:
        number: At a time.
        name: Of the threads.

    Attributes:
        slots: One for each.
    """

    def __init__(self, number: int, name: str) -> None:
        self.slots = Slots(number)
        self._threads = ThreadPoolExecutor(number, thread_name_prefix=name)

    async def run(
        self,
        work: Callable[[], T],
        call: Call,
        *,
        turn: Callable[[], None] = nothing,
        ended: Callable[[float], None] = _nobody,
    ) -> tuple[T, float]:
        """Runs ``work`` when its turn comes.

        A cancelled caller gives its place in the queue up at once; work that has begun
        keeps its slot until it ends, since a thread cannot be stopped.

        Args:
            work: Blocks.
            call: Its deadline, after which nothing begins, and its priority.
            turn: Called on the event loop when the turn has come, before the work begins.
            ended: Called with the seconds that the work took, also when nobody waits for it.

        Returns:
            The result, and the seconds spent waiting for a slot.

        Raises:
            DeadlineExceededError: The deadline passed before the work began.
        """
        asked = time.monotonic()
        await self.slots.acquire(call)
        turn()
        began = time.monotonic()

        def done(future: asyncio.Future[T]) -> None:
            # Looked at, so that asyncio does not report what a cancelled caller left.
            future.exception()
            ended(time.monotonic() - began)
            self.slots.release()

        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        running.add_done_callback(done)
        # Shielded: a cancelled future would call back while its thread goes on.
        return await asyncio.shield(running), began - asked
