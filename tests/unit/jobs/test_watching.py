"""Many watchers of jobs over one reader."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryObjects
from histill.core.errors import InvalidArgumentError, QueueUnavailableError, UnavailableError
from histill.core.events import JobEvent
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec
from histill.jobs import watching as module
from histill.jobs.watching import Watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NOW = datetime(2026, 5, 4, tzinfo=UTC)


@dataclass
class Counted(MemoryEvents):
    """Counts the watchers' own reads, and can be away."""

    reads: int = 0
    away: bool = False
    broken: bool = False
    free: threading.Event = field(default_factory=threading.Event)

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        self.reads += threading.current_thread().name != "watching"
        if self.away:
            raise QueueUnavailableError("away")
        return super().read(job_id, after=after, limit=limit)

    def follow(self, after: Mapping[str, str], *, wait_s: float) -> dict[str, list[JobEvent]]:
        self.free.wait(20)
        if self.broken:
            raise ValueError("broken")
        return super().follow(after, wait_s=min(wait_s, 0.05))


@asynccontextmanager
async def world() -> AsyncIterator[tuple[Watching, JobStore, Counted]]:
    """A reader that runs, over fakes."""
    events = Counted()
    events.free.set()
    jobs = JobStore(MemoryObjects(), MemoryIndex(built=True), events, lambda: NOW)
    watching = Watching(jobs)
    thread = watching.start()
    try:
        yield watching, jobs, events
    finally:
        watching.stop()
        thread.join(5)


@pytest.fixture
def only_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """No watcher looks by itself: somebody must have woken it."""
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 600)


def queued(jobs: JobStore) -> Job:
    spec = SupervisedSpec(dataset="d", output_model="m")
    return jobs.create(Job(id=new_job_id(), spec=spec, create_time=NOW))


def log(jobs: JobStore, job: Job, text: str) -> None:
    jobs.events.append(job.id, JobEvent(time=NOW, log=text))


async def logs(watching: Watching, job: Job, after: str = "") -> list[str]:
    return [event.log or "" async for event in watching.follow(job.id, after=after)]


async def end(jobs: JobStore, job: Job) -> None:
    await asyncio.to_thread(jobs.update, job.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))


async def test_every_watcher_sees_every_event_once() -> None:
    """Those who come early, late and in the middle, of one job and of another."""
    async with world() as (watching, jobs, events):
        job, other = queued(jobs), queued(jobs)
        early = [asyncio.create_task(logs(watching, job)) for _ in range(20)]
        third = asyncio.create_task(logs(watching, other))
        for number in range(50):
            log(jobs, job, str(number))
            if number % 10 == 0:
                await asyncio.sleep(0.01)
            if number == 25:
                early += [asyncio.create_task(logs(watching, job)) for _ in range(20)]
        log(jobs, other, "other")
        await end(jobs, job)
        await end(jobs, other)
        expected = ["", *map(str, range(50)), ""]
        async with asyncio.timeout(20):
            assert all(found == expected for found in await asyncio.gather(*early))
            assert await third == ["", "other", ""]
        assert await logs(watching, job) == expected
        assert events.reads < 50 * 40


async def test_waiting_costs_no_reads_of_ones_own() -> None:
    """However many watch a quiet job, one reader waits for all of them."""
    async with world() as (watching, jobs, events):
        job = queued(jobs)
        tasks = [asyncio.create_task(logs(watching, job)) for _ in range(100)]
        await asyncio.sleep(0.3)
        before = events.reads
        await asyncio.sleep(0.5)
        assert events.reads == before
        await end(jobs, job)
        await asyncio.gather(*tasks)


async def test_a_watcher_that_is_too_slow_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its queue cannot hold it reads itself: nothing is lost, nothing comes twice."""
    monkeypatch.setattr(module, "_MOST_WAITING", 5)
    async with world() as (watching, jobs, _):
        job = queued(jobs)
        found = []
        async for event in watching.follow(job.id, after=""):
            found.append(event.log or "")
            if len(found) == 1:
                for number in range(40):
                    log(jobs, job, str(number))
                    await asyncio.sleep(0.002)
                await end(jobs, job)
        assert found == ["", *map(str, range(40)), ""]


async def test_a_watcher_lives_through_a_redis_that_lost_everything() -> None:
    """After the reader's failure each reads again; ids that begin anew are new to everybody."""
    async with world() as (watching, jobs, events):
        job = queued(jobs)
        for number in range(5):
            log(jobs, job, str(number))
        task = asyncio.create_task(logs(watching, job))
        await asyncio.sleep(0.3)
        events.away = True
        events.logs.clear()
        events.made.clear()
        await asyncio.sleep(0.3)
        events.away = False
        log(jobs, job, "new")
        await end(jobs, job)
        async with asyncio.timeout(20):
            assert await task == ["", "0", "1", "2", "3", "4", "new", ""]


async def test_ids_that_begin_anew_unnoticed_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis came back empty and its clock behind, so fast that no call failed."""
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.2)
    async with world() as (watching, jobs, events):
        job = queued(jobs)
        for number in range(5):
            log(jobs, job, str(number))
        task = asyncio.create_task(logs(watching, job))
        await asyncio.sleep(0.3)
        events.logs.clear()
        events.made.clear()
        log(jobs, job, "new")
        await asyncio.sleep(0.5)
        log(jobs, job, "newer")
        await end(jobs, job)
        async with asyncio.timeout(10):
            assert await task == ["", "0", "1", "2", "3", "4", "new", "newer", ""]


@pytest.mark.usefixtures("only_woken")
async def test_a_reader_that_fails_oddly_silences_nobody() -> None:
    """Whatever the failure is, each watcher then reads for itself."""
    async with world() as (watching, jobs, events):
        job = queued(jobs)
        task = asyncio.create_task(logs(watching, job))
        await asyncio.sleep(0.2)
        events.broken = True
        await asyncio.sleep(0.2)
        log(jobs, job, "said")
        await end(jobs, job)
        async with asyncio.timeout(20):
            assert await task == ["", "said", ""]


@pytest.mark.usefixtures("only_woken")
async def test_what_cannot_be_read_is_not_handed_out() -> None:
    """An event that only holds its place moves the reader on, and nobody sees it."""
    async with world() as (watching, jobs, _):
        job = queued(jobs)
        task = asyncio.create_task(logs(watching, job))
        await asyncio.sleep(0.2)
        jobs.events.append(job.id, JobEvent(time=NOW))
        log(jobs, job, "said")
        await end(jobs, job)
        async with asyncio.timeout(20):
            assert await task == ["", "said", ""]


@pytest.mark.usefixtures("only_woken")
async def test_events_that_the_reader_was_too_slow_for_come_from_the_archive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The replica stood still, and the log dropped what it had not read."""
    monkeypatch.setattr(module, "_MANY", 3)
    async with world() as (watching, jobs, events):
        job = queued(jobs)
        task = asyncio.create_task(logs(watching, job))
        await asyncio.sleep(0.2)
        events.free.clear()
        await asyncio.sleep(0.2)
        for number in range(40):
            log(jobs, job, str(number))
        jobs.archive(job.id, keep=5)
        events.free.set()
        await asyncio.sleep(0.2)
        await end(jobs, job)
        async with asyncio.timeout(20):
            assert await task == ["", *map(str, range(40)), ""]


async def test_a_watcher_that_is_behind_takes_nothing_from_its_queue() -> None:
    """What came after the gap would hide what was in it."""
    watcher = module._Watcher()
    watcher.fall_behind()
    watcher.give([JobEvent(time=NOW, id="9-0", log="late")])
    assert watcher.behind
    assert not watcher.waiting


async def test_a_job_whose_last_event_was_lost_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its record says that it has ended."""
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.1)
    async with world() as (watching, jobs, events):
        job = queued(jobs)
        task = asyncio.create_task(logs(watching, job))
        await asyncio.sleep(0.2)
        length = len(events.logs[job.id])
        jobs.index.save(job.moved_to(JobState.CANCELLED, at=NOW).model_copy(update={"revision": 1}))
        async with asyncio.timeout(20):
            assert await task == [""]
        assert len(events.logs[job.id]) == length


@pytest.mark.usefixtures("only_woken")
async def test_draining_sends_watchers_away_at_once() -> None:
    """They hear UNAVAILABLE, and watch again elsewhere from their last event."""
    async with world() as (watching, jobs, _):
        job = queued(jobs)
        task = asyncio.create_task(logs(watching, job))
        await asyncio.sleep(0.2)
        watching.drain()
        async with asyncio.timeout(20):
            with pytest.raises(UnavailableError, match="watch again"):
                await task


async def test_what_is_no_event_id_is_named() -> None:
    """A wrong place to go on from is the caller's mistake."""
    async with world() as (watching, jobs, events):
        job = queued(jobs)

        def refuse(*_: object, **__: object) -> list[JobEvent]:
            raise InvalidArgumentError.of("after_event_id", "is none")

        events.read = refuse  # type: ignore[method-assign]
        with pytest.raises(InvalidArgumentError, match="after_event_id"):
            await logs(watching, job, after="x")
