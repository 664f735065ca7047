"""The thread that watches an attempt."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects
from histill.core.job_store import JobStore
from histill.distill.stops import Lease, StopReason, watched


def test_an_attempt_that_lost_its_lease_is_watched_until_it_ends() -> None:
    """It has to clean up, for as long as that takes: meanwhile its worker is none that hangs."""
    live = MemoryLive()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    jobs = JobStore(MemoryObjects(), MemoryIndex(), MemoryEvents(), lambda: now)
    fence = live.acquire_lease("j", "me", ttl_s=0.05, floor=0)
    assert fence is not None
    looked, lost = threading.Semaphore(0), Lease("j", "me", fence)
    live.revoke_lease("j", live.leases(["j"])["j"].token, floor=0)
    with watched(
        lost, live, jobs, threading.Event(), looked.release, ttl_s=0.05, poll_s=0.005
    ) as stop:
        assert stop.wait(30)
        assert stop.reason is StopReason.LEASE_LOST
        beats = live.beats["j"]
        # Two may have come before.
        while looked.acquire(blocking=False):
            pass
        for _ in range(5):
            assert looked.acquire(timeout=30)
        assert live.beats["j"] == beats
