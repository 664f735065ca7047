"""How often an address may try wrong keys."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from histill.core.errors import ResourceExhaustedError, UnauthenticatedError
from histill.rpc.buckets import Buckets
from histill.rpc.peers import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

# Only wrong keys count, which is known afterwards: so many may be on their way.
_AT_ONCE = 4


class Attempts:
    """Counts wrong keys by address.

    Args:
        per_minute: How many an address may try; 0: any number.
        clock: Seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounded = per_minute > 0
        self._wrong = Buckets(per_s=per_minute / 60, burst=max(1, per_minute), clock=clock)
        self._trying: Counter[str] = Counter()

    @contextmanager
    def one(self, address: str) -> Iterator[None]:
        """Counts the attempt within the block if that raises ``UnauthenticatedError``.

        Raises:
            ResourceExhaustedError: The address has tried too many, or too many at once.
        """
        if wait_s := self._wrong.wait_s(address):
            raise ResourceExhaustedError(
                "too many wrong keys came from your address; wait, and copy the key anew",
                retry_after_s=wait_s,
            )
        if self._bounded and self._trying[address] >= _AT_ONCE:
            raise ResourceExhaustedError("one key at a time", retry_after_s=1.0)
        self._trying[address] += 1
        try:
            yield
        except UnauthenticatedError:
            self._wrong.take(address)
            raise
        finally:
            self._trying[address] -= 1
            if not self._trying[address]:
                del self._trying[address]


def address_in(request: Request) -> str:
    """The address of a request as limits count it; behind trusted proxies, the browser's."""
    host = request.client.host if request.client else ""
    return address_of(f"ipv6:[{host}]:0" if ":" in host else f"ipv4:{host}:0")
