"""Callers who go on and on, and what became of their calls."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from histill.core.errors import HistillError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LAST_CALL_S = 60.0
_PAUSE_S = 0.02  # so that the machine can start replicas meanwhile


@dataclass
class Calls:
    """What callers have seen.

    Attributes:
        answered: When each answer came (``time.monotonic``), and how many seconds it took.
        failed: What each failure said.
    """

    answered: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def wait_for(self, more: int, *, seconds: float = 60.0) -> None:
        """Returns when so many more calls have been answered.

        Raises:
            TimeoutError: They were not.
        """
        wanted, deadline = len(self.answered) + more, time.monotonic() + seconds
        while len(self.answered) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.answered)} of {wanted} answers; {self.failed[-3:]}")
            time.sleep(0.02)


@contextmanager
def calling(call: Callable[[], object], *, callers: int) -> Iterator[Calls]:
    """So many callers, each with the next call soon after the last one's answer, in the block."""
    calls, stop = Calls(), threading.Event()

    def keep() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            try:
                call()
            except grpc.RpcError as exc:
                words = exc.details() if isinstance(exc, grpc.Call) else str(exc)
                code = exc.code().name if isinstance(exc, grpc.Call) else ""
                calls.failed.append(f"{code}: {words}")
            except HistillError as exc:
                calls.failed.append(f"{type(exc).__name__}: {exc}")
            else:
                now = time.monotonic()
                calls.answered.append((now, now - begun))
            stop.wait(_PAUSE_S)

    threads = [threading.Thread(target=keep, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield calls
    finally:
        stop.set()
        for thread in threads:
            thread.join(_LAST_CALL_S)
    assert not any(thread.is_alive() for thread in threads), "a call hangs"
