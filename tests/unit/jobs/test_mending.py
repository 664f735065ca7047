"""The looks of the replica that leads at what the index counts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fakes import MemoryIndex
from histill.core.errors import QueueUnavailableError
from histill.core.pools import PoolLoad
from histill.jobs.mending import mend, mend_now_and_then


@dataclass
class Torn(MemoryIndex):
    """An index whose pools count one job that no kind does, until it is mended."""

    away: int = 0
    asked: int = 0
    mended: int = 0

    def pools(self) -> dict[str, PoolLoad]:
        self.asked += 1
        if self.asked <= self.away:
            raise QueueUnavailableError("away")
        return {} if self.mended else {"default": PoolLoad(queued=1)}

    def mend(self) -> None:
        self.mended += 1


async def until_mended(index: Torn) -> None:
    async with asyncio.timeout(30):
        while not index.mended:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


def test_an_index_that_agrees_is_left_alone() -> None:
    """Nor is a second look at it mended again."""
    index = Torn()
    assert mend(index)
    assert not mend(index)
    assert index.mended == 1


async def test_only_the_leader_looks_and_it_waits_for_a_redis_that_is_away() -> None:
    """Whoever begins to lead begins to look."""
    leads, index = False, Torn(away=3)
    task = asyncio.create_task(mend_now_and_then(index, lambda: leads, every_s=0.01))
    await asyncio.sleep(0.2)
    assert index.asked == 0
    leads = True
    await until_mended(index)
    assert index.asked > 3
    task.cancel()
