"""Token buckets: how often somebody may do something, in bounded memory.

Source: https://en.wikipedia.org/wiki/Token_bucket.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 10_000


class Buckets:
    """One bucket for each name, full at first; for one thread.

    Args:
        per_s: What flows in; 0: nobody is ever held up.
        burst: What a bucket holds.
        clock: Seconds that only grow.
        most: Names that are remembered; the one that did nothing for longest goes first.
    """

    def __init__(
        self,
        *,
        per_s: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        most: int = _MOST,
    ) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._most = most
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Names that are remembered."""
        return len(self._levels)

    def wait_s(self, name: str) -> float:
        """Seconds until something may be taken; 0 when it may now."""
        if not self._per_s:
            return 0.0
        return max(0.0, (1 - self._level(name)) / self._per_s)

    def take(self, name: str) -> float:
        """Takes one, unless none is there; returns the seconds to wait for it, 0 when taken."""
        if wait := self.wait_s(name):
            return wait
        if self._per_s:
            self._levels[name] = (self._level(name) - 1, self._clock())
            self._levels.move_to_end(name)
            if len(self._levels) > self._most:
                self._levels.popitem(last=False)
        return 0.0

    def _level(self, name: str) -> float:
        level, at = self._levels.get(name, (float(self._burst), self._clock()))
        return min(self._burst, level + (self._clock() - at) * self._per_s)
