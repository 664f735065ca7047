"""Notices when jobs are counted otherwise by pool than by kind, and puts it right.

Both are kept by whoever changes a job, in one step. A process of a version that knows only one
of them changes only that one, and workers would be scaled by what it left behind.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import HistillError
from histill.core.jobs import JobState

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.core.ports import JobIndex

_EVERY_S = 60.0
log = structlog.get_logger()


async def mend_now_and_then(
    index: JobIndex, leads: Callable[[], bool], *, every_s: float = _EVERY_S
) -> None:
    """Looks until it is cancelled, while this replica leads.

    Args:
        index: What is looked at.
        leads: Whether this replica is the one that does.
        every_s: Between two looks, in seconds.
    """
    while True:
        await asyncio.sleep(every_s)
        if not leads():
            continue
        try:
            await asyncio.to_thread(mend, index)
        except HistillError as exc:
            log.warning("mending_waits", why=str(exc))
        except Exception:
            log.exception("mending_stumbled")


def mend(index: JobIndex) -> bool:
    """Puts the index right when its sums differ; whether they did."""
    # A job that moves between the two questions makes one difference, and hardly a second.
    if _agrees(index) or _agrees(index):
        return False
    log.warning("index_out_of_step")
    index.mend()
    return True


def _agrees(index: JobIndex) -> bool:
    by_kind = {JobState.QUEUED: 0, JobState.RUNNING: 0}
    for (_, state), count in index.counts().items():
        by_kind[state] += count
    loads = index.pools().values()
    by_pool = {
        JobState.QUEUED: sum(load.queued for load in loads),
        JobState.RUNNING: sum(load.running for load in loads),
    }
    return by_kind == by_pool
