"""How slow a client may send: a longest silence, and a least rate on the whole."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from histill.core.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

T = TypeVar("T")
MIN_BYTES_PER_S = 128 << 10


@dataclass(frozen=True)
class Pace:
    """Of one upload, from when this was made.

    Attributes:
        idle_s: Longest wait for a part; also how far an upload may be behind its rate.
        bytes_per_s: Least rate.
    """

    idle_s: float
    bytes_per_s: int = MIN_BYTES_PER_S
    _began: float = field(default_factory=time.monotonic)

    async def next(self, parts: AsyncIterator[T], received: int) -> T | None:
        """The next part, or ``None`` at the end.

        Args:
            parts: Where it comes from.
            received: Bytes so far.

        Raises:
            DeadlineExceededError: It does not come in time; says which time.
        """
        left = self._began + self.idle_s + received / self.bytes_per_s - time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, min(self.idle_s, left))):
                return await anext(parts, None)
        except TimeoutError:
            if left < self.idle_s:
                raise DeadlineExceededError(
                    f"the upload is too slow: {received} bytes came, at less than "
                    f"{self.bytes_per_s} bytes a second"
                ) from None
            raise DeadlineExceededError(
                f"no chunk came for {self.idle_s:g} s after {received} bytes"
            ) from None
