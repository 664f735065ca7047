"""Refusals of callers whom nobody knows: told once, and then counted.

A record each would let a stranger fill the log, and with it stop every change.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_EVERY_S = 60.0
_MOST = 200
_OTHERS = "others"


class Strangers:
    """Writes the first refusal of an address in a minute, and the number of those after it.

    For one event loop; memory and records are bounded, however many addresses there are.

    Args:
        write: Takes a record.
        every_s: Between two times that numbers are written.
        most: Addresses that are told apart in that time.
    """

    def __init__(
        self,
        write: Callable[[Mapping[str, object]], object],
        *,
        every_s: float = _EVERY_S,
        most: int = _MOST,
    ) -> None:
        self._write = write
        self._every_s = every_s
        self._most = most
        self._counts: dict[str, int] = {}
        self._last: dict[str, Mapping[str, object]] = {}

    def tell(self, address: str, fields: Mapping[str, object]) -> None:
        """Records or counts one refusal.

        Args:
            address: Where it came from.
            fields: The record that it would have alone.
        """
        if not self._counts:
            asyncio.get_running_loop().call_later(self._every_s, self.flush)
        if address not in self._counts and len(self._counts) >= self._most:
            address = _OTHERS
        told = {**fields, "address": address}
        if address not in self._counts:
            self._counts[address] = 0
            self._write(told)
            return
        self._counts[address] += 1
        self._last[address] = told

    def flush(self) -> None:
        """Writes the numbers now; also for the end of a process."""
        counts, last = self._counts, self._last
        self._counts, self._last = {}, {}
        for address, fields in last.items():
            self._write({**fields, "count": counts[address]})
