"""Hands on what the trainer says in a thread of its own, so that nobody waits for Redis."""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.distill.workdir import RunEvent

log = structlog.get_logger()


@dataclass
class Relay:
    """A bounded queue before two listeners; when it is full, the oldest log line goes first.

    Attributes:
        on_event: Called with each event.
        on_log: Called with each line of the log.
        most: How much may wait.
        failed: What a listener raised; nothing is handed on after it.
    """

    on_event: Callable[[RunEvent], None]
    on_log: Callable[[str], None]
    most: int = 10_000
    failed: Exception | None = None
    _waiting: deque[RunEvent | str] = field(default_factory=deque)
    _dropped: int = 0
    _closed: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        # What is logged there belongs to the same request.
        run = partial(copy_context().run, self._run)
        self._thread = threading.Thread(target=run, name="relay", daemon=True)
        self._thread.start()

    def put(self, said: RunEvent | str) -> None:
        """Takes an event or a line of the log; never waits."""
        with self._changed:
            if self._closed or self.failed is not None:
                return
            if len(self._waiting) >= self.most:
                self._drop_one()
            self._waiting.append(said)
            self._changed.notify()

    def _drop_one(self) -> None:
        line = next((i for i, each in enumerate(self._waiting) if isinstance(each, str)), 0)
        self._dropped += isinstance(self._waiting[line], str)
        del self._waiting[line]

    def close(self, *, wait_s: float) -> None:
        """Takes nothing more, and waits some time for what waits; the rest is never told."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(wait_s)
        with self._changed:
            left = len(self._waiting)
            self._waiting.clear()
        if left:
            log.warning("trainer_not_heard_out", left=left)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            said, dropped = taken
            try:
                if dropped:
                    self.on_log(f"{dropped} lines are left out here: Redis was too slow for them")
                if isinstance(said, str):
                    self.on_log(said)
                else:
                    self.on_event(said)
            except Exception as exc:  # noqa: BLE001 - raised again by run_trainer
                with self._changed:
                    self.failed = exc
                    self._waiting.clear()
                return

    def _take(self) -> tuple[RunEvent | str, int] | None:
        """The oldest, and how many lines were dropped before it; none after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            dropped, self._dropped = self._dropped, 0
            return self._waiting.popleft(), dropped
