"""So many at a time: urgent ones first, the others in the order in which they came."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from typing import TYPE_CHECKING

from histill.core.errors import DeadlineExceededError

if TYPE_CHECKING:
    from histill.inference.call import Call

TOO_LATE = "the deadline passed before there was a turn to compute"


class Slots:
    """Slots of which each is held by one caller at a time.

    Args:
        number: How many there are.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def ahead(self, *, urgent: bool) -> int:
        """How many who wait would have a slot before a newcomer."""
        return sum(
            not future.done() and (not routine or not urgent)
            for routine, _, future in self._waiting
        )

    @property
    def free(self) -> int:
        """Slots that nobody holds."""
        return self._free

    async def acquire(self, call: Call) -> None:
        """Waits for a slot; ``release`` gives it back.

        Raises:
            DeadlineExceededError: The call's deadline passed first.
        """
        left = call.left_s
        if left is not None and left <= 0:
            raise DeadlineExceededError(TOO_LATE)
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not call.urgent, next(self._numbers), turn))
        try:
            async with asyncio.timeout(left):
                await turn
        except BaseException as exc:
            if turn.done() and not turn.cancelled():  # its turn came just then
                self.release()
            turn.cancel()
            if isinstance(exc, TimeoutError):
                raise DeadlineExceededError(TOO_LATE) from None
            raise

    def release(self) -> None:
        """Hands a slot to whoever is next, if anybody still waits."""
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
