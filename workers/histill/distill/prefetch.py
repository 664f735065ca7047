"""Draws the next batches while the network works on this one."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


def prefetched(
    draw: Callable[[int], T], count: int, *, first: int = 0, ahead: int = 2
) -> Iterator[T]:
    """``draw(first)`` to ``draw(count - 1)`` in order, drawn in another thread.

    NumPy and torch let go of the interpreter while they compute, so the two overlap.

    Args:
        draw: What is drawn at a position; must not depend on earlier calls.
        count: How many there are.
        first: Position of the first that is wanted.
        ahead: How many may wait.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        waiting = deque(pool.submit(draw, i) for i in range(first, min(first + ahead, count)))
        for position in range(first, count):
            ready = waiting.popleft()
            if position + ahead < count:
                waiting.append(pool.submit(draw, position + ahead))
            yield ready.result()
