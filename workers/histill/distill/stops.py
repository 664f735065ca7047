"""Why an attempt must stop before its end, and the thread that finds out.

One thread per attempt renews the lease and looks for a cancel request; the
attempt itself asks ``stop.check()`` between steps that are short.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import structlog

from histill.core.errors import (
    AlreadyExistsError,
    CorruptArtifactError,
    NotFoundError,
    UnavailableError,
)
from histill.core.jobs import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from histill.core.job_store import JobStore
    from histill.core.ports import LiveState

log = structlog.get_logger()
T = TypeVar("T")
_RENEWALS = 5  # within the time of a lease
_RETRY_S = 1.0


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

    def patiently(self, action: Callable[[], T], *, patience_s: float, stopped_s: float = 0.0) -> T:
        """What ``action`` returns, tried again while a server is away.

        Args:
            action: May be repeated.
            patience_s: How long to try.
            stopped_s: How long to try when the attempt must stop anyway.

        Raises:
            UnavailableError: It stayed away for so long.
        """
        start = time.monotonic()
        while True:
            try:
                return action()
            except (UnavailableError, AlreadyExistsError) as exc:
                # A number that was taken meanwhile: the next try gets another.
                patience = patience_s if self.reason is None else stopped_s
                if time.monotonic() - start >= patience:
                    raise
                log.warning("tries_again", why=str(exc))
                time.sleep(min(_RETRY_S, patience))


@dataclass(frozen=True)
class Lease:
    """A held lease: who runs which job under which fencing number."""

    job_id: str
    owner: str
    fence: int


@contextmanager
def watched(
    lease: Lease,
    live: LiveState,
    jobs: JobStore,
    draining: threading.Event,
    looked: Callable[[], None],
    *,
    ttl_s: float,
    poll_s: float,
) -> Iterator[Stop]:
    """Keeps the lease while the block runs, and yields the stop it may set.

    Args:
        lease: What is kept.
        live: Where.
        jobs: Says whose the job is when the lease is gone.
        draining: Set when the worker stops.
        looked: Called at each look, as a sign of life.
        ttl_s: How long the lease lasts.
        poll_s: Between two looks.
    """
    stop, done = Stop(), threading.Event()
    watch = _Watch(lease, live, jobs, stop, looked, ttl_s)
    thread = threading.Thread(
        # In this context, so that what is logged there belongs to the same request.
        target=partial(copy_context().run, watch.run, draining, done, poll_s=poll_s),
        daemon=True,
    )
    thread.start()
    try:
        yield stop
    finally:
        done.set()
        thread.join()


@dataclass
class _Watch:
    """Renews one lease, and looks for what ends the attempt."""

    lease: Lease
    live: LiveState
    jobs: JobStore
    stop: Stop
    looked: Callable[[], None]
    ttl_s: float
    away: bool = False

    def run(self, draining: threading.Event, done: threading.Event, *, poll_s: float) -> None:
        renewed = time.monotonic()
        while not done.wait(poll_s):
            self.looked()
            if self.stop.reason is StopReason.LEASE_LOST:
                continue  # nothing to keep; but the attempt has yet to end, which takes its time
            if draining.is_set():
                self.stop.set(StopReason.DRAINED)
            try:
                if self.live.cancel_requested(self.lease.job_id):
                    self.stop.set(StopReason.CANCELLED)
                if time.monotonic() - renewed > self.ttl_s / _RENEWALS:
                    self._renew()
                    renewed = time.monotonic()
                self.away = False
            except UnavailableError as exc:
                # While Redis is away nobody else can take the job. Whether the lease outlived
                # it is known when it is back; until then work goes on, and the record's fence
                # decides what counts.
                if not self.away:
                    log.warning("lease_unreachable", job=self.lease.job_id, error=str(exc))
                self.away = True
            except Exception:
                # Whatever it is: an attempt that nobody watches must not go on.
                log.exception("watch_crashed", job=self.lease.job_id)
                self.stop.set(StopReason.LEASE_LOST)

    def _renew(self) -> None:
        job_id, owner, fence = self.lease.job_id, self.lease.owner, self.lease.fence
        if self.live.renew_lease(job_id, owner, fence, ttl_s=self.ttl_s):
            return
        # It ran out, or Redis lost it: ours still, if the record says so and nobody was faster.
        try:
            job = self.jobs.stored(job_id)
        except (NotFoundError, CorruptArtifactError):
            job = None
        ours = job is not None and job.state is JobState.RUNNING and job.fence == fence
        if not (ours and self.live.restore_lease(job_id, owner, fence, ttl_s=self.ttl_s)):
            self.stop.set(StopReason.LEASE_LOST)
            return
        log.warning("lease_restored", job=job_id, fence=fence)
        if job and job.cancel_requested:
            self.stop.set(StopReason.CANCELLED)
