"""Bounds on what is inside and what computes."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from histill.core.errors import DeadlineExceededError, ResourceExhaustedError
from histill.inference.admission import Admission


async def test_a_full_house_refuses_at_once() -> None:
    """Beyond workers and queue the error says when to come back; a place left is free."""
    admission = Admission(workers=1, max_queue=1)
    async with admission.admitted():
        async with admission.admitted():
            with pytest.raises(ResourceExhaustedError) as caught:
                await admission.admitted().__aenter__()
            assert caught.value.retry_after_s is not None
            assert caught.value.retry_after_s >= 0.1
        async with admission.admitted():
            pass


async def test_no_more_computations_than_workers() -> None:
    """With two workers, at most two run at a time, and each tells how long it waited."""
    admission = Admission(workers=2, max_queue=10)
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    done = await asyncio.gather(*(admission.compute(work, deadline=None) for _ in range(6)))
    assert most == 2
    assert max(waited for _, waited in done) > 0.02


async def test_an_expired_deadline_is_never_computed() -> None:
    """Neither a deadline that has passed nor one that passes while waiting is computed."""
    admission = Admission(workers=1, max_queue=10)
    computed: list[str] = []
    with pytest.raises(DeadlineExceededError):
        await admission.compute(lambda: computed.append("past"), deadline=time.monotonic() - 1)
    busy = asyncio.create_task(admission.compute(lambda: time.sleep(0.2), deadline=None))
    await asyncio.sleep(0.05)
    with pytest.raises(DeadlineExceededError):
        await admission.compute(lambda: computed.append("late"), deadline=time.monotonic() + 0.05)
    await busy
    assert computed == []


async def test_a_cancelled_caller_gives_its_place_up() -> None:
    """Cancelled while waiting, work never starts; cancelled while running, its slot lasts."""
    admission = Admission(workers=1, max_queue=10)
    ended = threading.Event()

    def slow() -> None:
        time.sleep(0.2)
        ended.set()

    running = asyncio.create_task(admission.compute(slow, deadline=None))
    await asyncio.sleep(0.02)
    computed: list[str] = []
    waiting = asyncio.create_task(
        admission.compute(lambda: computed.append("cancelled"), deadline=None)
    )
    await asyncio.sleep(0.02)
    waiting.cancel()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not ended.is_set()
    await admission.compute(lambda: computed.append(str(ended.is_set())), deadline=None)
    assert computed == ["True"]


async def test_what_the_work_raises_reaches_the_caller() -> None:
    """An error frees the slot and is the caller's."""
    admission = Admission(workers=1, max_queue=0)

    def fails() -> None:
        raise ResourceExhaustedError("no memory")

    with pytest.raises(ResourceExhaustedError, match="no memory"):
        await admission.compute(fails, deadline=None)
    assert (await admission.compute(lambda: 7, deadline=None))[0] == 7


async def test_large_images_wait_for_each_other() -> None:
    """As many large images as workers are in memory; a deadline ends the wait."""
    admission = Admission(workers=1, max_queue=10)
    async with admission.large(deadline=None):
        with pytest.raises(DeadlineExceededError):
            await admission.large(deadline=time.monotonic() + 0.05).__aenter__()
    async with admission.large(deadline=time.monotonic() + 1):
        pass
