"""Slots that are handed from one caller to the next."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from histill.core.errors import DeadlineExceededError
from histill.inference.call import Call
from histill.inference.slots import Slots


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=12), st.integers(1, 3))
def test_no_slot_is_lost_and_urgent_ones_are_first(
    callers: list[tuple[bool, bool]], number: int
) -> None:
    """Whoever gives up while waiting leaves the order of the others, and all slots, as they are."""

    async def play() -> None:
        slots, order = Slots(number), []

        async def hold(index: int, *, urgent: bool) -> None:
            await slots.acquire(Call(urgent=urgent))
            order.append(index)
            await asyncio.sleep(0)
            slots.release()

        for _ in range(number):
            await slots.acquire(Call())
        tasks = [
            asyncio.create_task(hold(index, urgent=urgent))
            for index, (urgent, _) in enumerate(callers)
        ]
        await asyncio.sleep(0)
        for task, (_, gives_up) in zip(tasks, callers, strict=True):
            if gives_up:
                task.cancel()
        await asyncio.sleep(0)
        for _ in range(number):
            slots.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        stayed = [index for index, (_, gives_up) in enumerate(callers) if not gives_up]
        assert order == sorted(stayed, key=lambda index: (not callers[index][0], index))
        assert slots.free == number

    asyncio.run(play())


async def test_a_slot_that_comes_as_its_caller_gives_up_goes_on() -> None:
    """Cancelled in the moment of its turn, a caller hands the slot to the next."""
    slots = Slots(1)
    await slots.acquire(Call())
    first = asyncio.create_task(slots.acquire(Call()))
    second = asyncio.create_task(slots.acquire(Call()))
    await asyncio.sleep(0)
    slots.release()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.wait_for(second, 1)


async def test_a_deadline_ends_the_wait() -> None:
    """Neither a past deadline nor one that passes while waiting takes a slot."""
    slots = Slots(1)
    with pytest.raises(DeadlineExceededError):
        await slots.acquire(Call(deadline=time.monotonic() - 1))
    await slots.acquire(Call())
    with pytest.raises(DeadlineExceededError):
        await slots.acquire(Call(deadline=time.monotonic() + 0.02))
    slots.release()
    assert slots.free == 1
