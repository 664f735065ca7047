"""Why an attempt must stop before its end, and the thread that finds out.

One thread per attempt renews the lease and looks for a cancel request; the
attempt itself asks ``stop.check()`` between steps that are short.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import QueueUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.core.ports import LiveState

log = structlog.get_logger()


class StopReason(StrEnum):
    """Why an attempt stops early."""

    CANCELLED = "CANCELLED"
    LEASE_LOST = "LEASE_LOST"
    DRAINED = "DRAINED"


class StoppedError(Exception):
    """Raised inside an attempt that must stop; never leaves the supervisor."""

    def __init__(self, reason: StopReason) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass
class Stop:
    """Set once, by whoever first finds a reason."""

    reason: StopReason | None = None
    _event: threading.Event = field(default_factory=threading.Event)

    def set(self, reason: StopReason) -> None:
        """Asks the attempt to stop; the first reason wins."""
        self.reason = self.reason or reason
        self._event.set()

    def wait(self, timeout_s: float) -> bool:
        """Waits for a reason; whether there is one."""
        return self._event.wait(timeout_s)

    def check(self) -> None:
        """Returns while the attempt may go on.

        Raises:
            StoppedError: It may not.
        """
        if self.reason is not None:
            raise StoppedError(self.reason)


@dataclass(frozen=True)
class Lease:
    """A held lease: who runs which job under which fencing number."""

    job_id: str
    owner: str
    fence: int


@contextmanager
def watched(
    lease: Lease, live: LiveState, draining: threading.Event, *, ttl_s: float, poll_s: float
) -> Iterator[Stop]:
    """Keeps the lease while the block runs, and yields the stop it may set."""
    stop, done = Stop(), threading.Event()
    thread = threading.Thread(
        target=_watch, args=(lease, live, draining, stop, done, ttl_s, poll_s), daemon=True
    )
    thread.start()
    try:
        yield stop
    finally:
        done.set()
        thread.join()


def _watch(
    lease: Lease,
    live: LiveState,
    draining: threading.Event,
    stop: Stop,
    done: threading.Event,
    ttl_s: float,
    poll_s: float,
) -> None:
    renewed = time.monotonic()
    while not done.wait(poll_s):
        if draining.is_set():
            stop.set(StopReason.DRAINED)
        try:
            if live.cancel_requested(lease.job_id):
                stop.set(StopReason.CANCELLED)
            if time.monotonic() - renewed > ttl_s / 3:
                if not live.renew_lease(lease.job_id, lease.owner, lease.fence, ttl_s=ttl_s):
                    stop.set(StopReason.LEASE_LOST)
                    return
                renewed = time.monotonic()
        except QueueUnavailableError as exc:
            # The lease may have run out unseen: past its time we must assume so.
            log.warning("lease_unreachable", job=lease.job_id, error=str(exc))
            if time.monotonic() - renewed > ttl_s:
                stop.set(StopReason.LEASE_LOST)
                return
        except Exception:
            # Whatever it is: an attempt that nobody watches must not go on.
            log.exception("watch_crashed", job=lease.job_id)
            stop.set(StopReason.LEASE_LOST)
            return
