"""The reaper's decisions, over fakes held to the adapters' contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects, MemoryQueue
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec
from histill.jobs.reaper import Reaper
from histill.jobs.settings import ReaperPart

NOW = datetime(2026, 5, 4, tzinfo=UTC)


@dataclass
class World:
    """A reaper with no patience, and what it acts on."""

    live: MemoryLive = field(default_factory=MemoryLive)
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    index: MemoryIndex = field(default_factory=lambda: MemoryIndex(built=True))
    objects: MemoryObjects = field(default_factory=MemoryObjects)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.objects, self.index, MemoryEvents(), lambda: NOW)
        patience = ReaperPart(grace_s=0, resubmit_s=0, max_losses=2)
        self.reaper = Reaper(
            "me", self.jobs, self.index, self.live, self.queue, patience, lambda: NOW
        )

    def add(self, state: JobState = JobState.QUEUED, **fields: object) -> Job:
        spec = SupervisedSpec(dataset="d", output_model="m")
        job = Job(id=new_job_id(), spec=spec, create_time=NOW, state=state)
        return self.jobs.create(job.model_copy(update=fields))

    def state(self, job: Job) -> JobState:
        return self.jobs.get(job.id).state


@pytest.fixture
def world() -> World:
    """An empty world."""
    return World()


def test_a_running_job_without_a_lease_goes_back_to_the_queue(world: World) -> None:
    """Its worker is gone, so another gets it."""
    job = world.add(JobState.RUNNING, attempt=1)
    world.reaper.look()
    assert world.state(job) is JobState.QUEUED
    assert world.queue.waiting == [(0, job.id)]


def test_a_leased_job_is_left_alone(world: World) -> None:
    """Whoever holds the lease is alive."""
    job = world.add(JobState.RUNNING, attempt=1)
    world.live.acquire_lease(job.id, "worker", ttl_s=30, floor=0)
    world.reaper.look()
    assert world.state(job) is JobState.RUNNING
    world.live.expire(job.id)
    world.reaper.look()
    assert world.state(job) is JobState.QUEUED


def test_a_job_that_keeps_losing_its_worker_fails_with_a_hint(world: World) -> None:
    """After the last attempt it says what to look for."""
    job = world.add(JobState.RUNNING, attempt=4, losses=1)
    world.reaper.look()
    ended = world.jobs.get(job.id)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert ended.error.reason == "WORKER_LOST"
    assert "memory" in ended.error.hint


def test_a_cancelled_job_without_a_worker_ends(world: World) -> None:
    """A cancel request outlives the worker that should have seen it."""
    job = world.add(JobState.RUNNING, attempt=1, cancel_requested=True)
    world.reaper.look()
    assert world.state(job) is JobState.CANCELLED


def test_a_queued_job_whose_message_is_gone_is_submitted_again(world: World) -> None:
    """Only while nothing waits: a long queue is no sign of a lost message."""
    job = world.add()
    world.queue.submit("another", priority=0)
    world.reaper.look()
    assert world.queue.waiting == [(0, "another")]
    world.queue.waiting.clear()
    world.reaper.look()
    assert world.queue.waiting == [(0, job.id)]


def test_only_the_leader_acts(world: World) -> None:
    """A second replica looks on."""
    world.live.lead("other", ttl_s=30)
    job = world.add(JobState.RUNNING, attempt=1)
    world.reaper.look()
    assert world.state(job) is JobState.RUNNING


def test_an_index_that_was_lost_is_rebuilt(world: World) -> None:
    """When Redis comes back empty, the jobs come back from S3."""
    job = world.add()
    world.index.records.clear()
    world.index.built = False
    world.reaper.look()
    assert world.index.get(job.id) == job


def test_patience_is_counted_from_the_first_look() -> None:
    """A lease that is missing for a moment is no lost worker."""
    world = World()
    world.reaper.settings = ReaperPart(grace_s=60, resubmit_s=60)
    job = world.add(JobState.RUNNING, attempt=1)
    world.reaper.look()
    assert world.state(job) is JobState.RUNNING
    key = (job.id, JobState.RUNNING, 1)
    world.reaper.since[key] -= 61
    world.reaper.look()
    assert world.state(job) is JobState.QUEUED
