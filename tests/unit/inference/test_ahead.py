"""Work done ahead of whoever takes it, and pieces that wait for a client."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from histill.inference.ahead import Ahead
from histill.inference.outbox import Outbox


class Worker:
    """Does pieces of work when told to."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.cancelled: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}

    async def run(self, work: int) -> int:
        self.begun.append(work)
        gate = self.gates.setdefault(work, asyncio.Event())
        try:
            await gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(work)
            raise
        if work == 13:
            raise ValueError("thirteen")
        return 10 * work

    def finish(self, *works: int) -> None:
        for work in works:
            self.gates.setdefault(work, asyncio.Event()).set()


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_results_come_in_order_whichever_ends_first() -> None:
    """The second may be done before the first, and is given after it."""
    worker = Worker()
    worker.finish(1, 2, 3)
    async with aclosing(Ahead(range(4), worker.run, active=lambda: 2).results()) as results:
        first = asyncio.ensure_future(anext(results))
        await settled()
        assert worker.begun == [0, 1, 2, 3]
        assert not first.done()
        worker.finish(0)
        assert [await first, *[each async for each in results]] == [0, 10, 20, 30]


async def test_work_goes_on_while_nobody_takes_results_within_bounds() -> None:
    """So many at a time, and twice as many and two that are not yet taken."""
    worker = Worker()
    async with aclosing(Ahead(range(100), worker.run, active=lambda: 2).results()) as results:
        first = asyncio.ensure_future(anext(results))
        await settled()
        assert worker.begun == [0, 1]
        worker.finish(*range(100))
        assert await first == 0
        await settled()
        assert len(worker.begun) == 7  # one taken, six kept
        assert await anext(results) == 10


async def test_closing_cancels_what_was_begun() -> None:
    """Nothing goes on for a caller who is gone."""
    worker = Worker()
    ahead = Ahead(range(10), worker.run, active=lambda: 3)
    results = ahead.results()
    worker.finish(0)
    assert await anext(results) == 0
    await results.aclose()
    await settled()
    assert sorted(worker.cancelled) == sorted(set(worker.begun) - {0})
    assert len(worker.begun) < 10


async def test_an_error_is_raised_in_its_turn() -> None:
    """What came before it is given."""
    worker = Worker()
    worker.finish(12, 13, 14)
    results = Ahead([12, 13, 14], worker.run, active=lambda: 3).results()
    assert await anext(results) == 120
    with pytest.raises(ValueError, match="thirteen"):
        await anext(results)


async def test_a_full_outbox_makes_the_work_wait() -> None:
    """Whoever reads slowly holds the work up; closing needs no room."""
    outbox: Outbox[int] = Outbox(most=2)
    put: list[int] = []

    async def work() -> None:
        for number in range(5):
            await outbox.put(number)
            put.append(number)
        outbox.close()

    working = asyncio.ensure_future(work())
    await settled()
    assert put == [0, 1]
    assert [piece async for piece in outbox.taken()] == [0, 1, 2, 3, 4]
    await working
    full: Outbox[int] = Outbox(most=1)
    await full.put(7)
    full.close()
    assert [piece async for piece in full.taken()] == [7]
