"""Signs of life of a worker's parts, which each part gives by itself."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEAT_S = 1.0


@dataclass
class Vitals:
    """When each part was last heard of; safe between threads.

    Attributes:
        loop_s: Longest silence of the loop that takes messages, while Redis answers.
        watch_s: Longest silence of the thread that watches an attempt; by then its lease is lost.
        connect_s: Longest time for which Celery is not connected, while Redis answers.
    """

    loop_s: float = 25.0
    watch_s: float = 180.0
    connect_s: float = 120.0
    _turned: float = field(default_factory=time.monotonic)
    _connected: bool = False
    _answers: float | None = None
    _watched: dict[str, float] = field(default_factory=dict)

    def turned(self) -> None:
        """The loop that takes messages has come round, connected to Redis."""
        self._turned, self._connected = time.monotonic(), True

    def disconnected(self) -> None:
        """The loop has ended; Celery tries to connect, for as long as it takes."""
        self._connected = False

    @property
    def taking(self) -> bool:
        """Whether messages are taken."""
        return self._connected and time.monotonic() - self._turned <= self.loop_s

    @contextmanager
    def watching(self, job_id: str) -> Iterator[Callable[[], None]]:
        """While the block runs an attempt is watched; whoever does calls what is yielded."""

        def looked() -> None:
            self._watched[job_id] = time.monotonic()

        looked()
        try:
            yield looked
        finally:
            self._watched.pop(job_id, None)

    def stalled(self, *, redis_answers: bool, draining: bool) -> str:
        """What stands still, or nothing.

        A training of hours is none of it, nor a Redis that is away.

        Args:
            redis_answers: Whether it does, when others ask.
            draining: Whether the worker stops: its loop then waits for the attempts to end.
        """
        now = time.monotonic()
        for job_id, seen in list(self._watched.items()):
            if now - seen > self.watch_s:
                return f"the watch of jobs/{job_id}"
        if draining or not redis_answers:
            # The loop waits for Redis, too.
            self._answers = None
            return ""
        self._answers = self._answers or now
        silent_s = now - max(self._turned, self._answers)
        if self._connected:
            return "the loop that takes messages" if silent_s > self.loop_s else ""
        return "the connection to a Redis that answers" if silent_s > self.connect_s else ""
