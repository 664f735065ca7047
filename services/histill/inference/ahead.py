"""Work that is done ahead of whoever takes its results, in order and within bounds."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable

W = TypeVar("W")
R = TypeVar("R")
_SPARE = 2


class Ahead(Generic[W, R]):
    """Starts pieces of work as others end, whether or not their results are taken yet.

    Args:
        works: One after the other.
        run: Does one.
        active: Most that wait or run at a time, now; twice as many and two may be done and
            not yet taken.
    """

    def __init__(
        self,
        works: Iterable[W],
        run: Callable[[W], Coroutine[Any, Any, R]],
        *,
        active: Callable[[], int],
    ) -> None:
        self._works = iter(works)
        self._run = run
        self._most_active = active
        self._active = 0
        self._started: deque[asyncio.Task[R]] = deque()
        self._closed = False

    async def results(self) -> AsyncGenerator[R]:
        """What each piece of work gave, in their order; closing it cancels what is started.

        Raises:
            Exception: What a piece of work raises, when its turn comes.
        """
        try:
            self._start()
            while self._started:
                yield await self._started.popleft()
                self._start()
        finally:
            self._closed = True
            for task in self._started:
                task.cancel()

    def _start(self) -> None:
        most = self._most_active()
        while self._active < most and len(self._started) < 2 * most + _SPARE:
            try:
                work = next(self._works)
            except StopIteration:
                return
            task = asyncio.create_task(self._run(work))
            task.add_done_callback(self._ended)
            self._active += 1
            self._started.append(task)

    def _ended(self, task: asyncio.Task[R]) -> None:
        self._active -= 1
        if not self._closed and not task.cancelled():
            task.exception()  # looked at, should nobody take it
            self._start()
