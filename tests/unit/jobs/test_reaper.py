"""The reaper's decisions, over fakes held to the adapters' contract."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects, MemoryQueue
from histill.core.errors import QueueUnavailableError
from histill.core.event_archive import archived
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.manifests import ModelManifest, ModelRole, Normalization
from histill.core.names import new_job_id
from histill.core.specs import NetworkSpec, SupervisedSpec
from histill.distill.settings import WorkerPart
from histill.jobs.gauges import Gauges
from histill.jobs.reaper import Reaper
from histill.jobs.settings import ReaperPart

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

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
        patience = ReaperPart(grace_s=0, resubmit_s=0, scan_s=0, max_losses=2)
        self.reaper = Reaper(
            "me",
            self.jobs,
            self.index,
            self.live,
            self.queue,
            Gauges(self.index, self.live, ("default", "gpu"), lambda: NOW),
            patience,
            lambda: NOW,
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
    assert world.queue.messages == [(0, job.id)]


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
    """Also while other messages wait, and never a second one for the same job."""
    job = world.add()
    world.queue.submit("another", priority=0, pool="default")
    for _ in range(3):
        world.reaper.look()
    assert world.queue.messages == [(0, "another"), (0, job.id)]


def test_a_queued_job_that_a_worker_is_just_taking_is_left_alone(world: World) -> None:
    """Its message is gone because somebody has the job."""
    job = world.add()
    world.live.acquire_lease(job.id, "worker", ttl_s=30, floor=0)
    world.reaper.look()
    assert world.queue.messages == []


def test_a_lease_that_nobody_renews_counts_as_none(world: World) -> None:
    """Redis would keep it for ever, its clock having jumped; a beating one is respected."""
    job = world.add(JobState.RUNNING, attempt=1)
    fence = world.live.acquire_lease(job.id, "worker", ttl_s=0.2, floor=0)
    assert fence is not None
    for _ in range(3):
        world.reaper.look()
        time.sleep(0.15)
        world.live.renew_lease(job.id, "worker", fence, ttl_s=0.2)
    assert world.state(job) is JobState.RUNNING
    world.reaper.look()
    time.sleep(0.25)
    world.reaper.look()
    assert world.state(job) is JobState.QUEUED
    assert not world.live.restore_lease(job.id, "worker", fence, ttl_s=30)


def test_a_result_whose_worker_died_before_it_said_so_is_kept(world: World) -> None:
    """The version that the record names is there and whole: that is the job's result."""
    job = world.add(JobState.RUNNING, attempt=1, losses=1, publishing="m@3")
    manifest = ModelManifest(
        name="m",
        version=3,
        role=ModelRole.TEACHER,
        network=NetworkSpec(),
        channels=1,
        classes=("background", "object"),
        normalization=Normalization(mean=(0.0,), std=(1.0,)),
        metrics={"dice": 0.5},
        job=job.name,
        create_time=NOW,
        files=(),
    )
    world.objects.put("models/m/3/manifest.json", manifest.model_dump_json().encode())
    world.reaper.look()
    ended = world.jobs.get(job.id)
    assert (ended.state, ended.result_model) == (JobState.SUCCEEDED, "models/m/versions/3")
    assert ended.metrics == {"dice": 0.5}


def test_half_a_result_of_a_job_that_ends_is_removed(world: World) -> None:
    """Files without a manifest go with the job that wrote them; another job's version stays."""
    job = world.add(JobState.RUNNING, attempt=4, losses=1, publishing="m@3")
    world.objects.put("models/m/3/model.onnx", b"half")
    world.objects.put("models/m/2/model.onnx", b"another's")
    world.reaper.look()
    assert world.state(job) is JobState.FAILED
    assert list(world.objects.list("models/")) == ["models/m/2/model.onnx"]


def test_an_ended_job_that_nobody_closed_is_closed(world: World) -> None:
    """Its worker died right after saying how it ended: checkpoints go, events are archived."""
    job = world.add(JobState.RUNNING, attempt=1)
    world.objects.put(f"jobs/{job.id}/checkpoints/1.safetensors", b"c")
    world.jobs.update(job.id, lambda j: j.moved_to(JobState.FAILED, at=NOW))
    world.reaper.look()
    assert list(world.objects.list(f"jobs/{job.id}/checkpoints/")) == []
    assert [event.state for event in archived(world.objects, job.id)][-1] is JobState.FAILED
    assert world.index.unclosed() == set()


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
    world.reaper.unrenewed.since[job.id, 1, ""] -= 61
    world.reaper.look()
    assert world.state(job) is JobState.QUEUED


def test_with_the_defaults_a_killed_workers_job_is_back_within_a_minute() -> None:
    """Its last renewal, the lease, the reaper's patience and its looks, all at their worst."""
    reaper, worker = ReaperPart(), WorkerPart()
    assert worker.lease_ttl_s + reaper.grace_s + 2 * reaper.every_s <= 50
    # A lease that Redis would keep for ever counts from the first look at its last beat.
    assert worker.lease_ttl_s + reaper.grace_s + 3 * reaper.every_s <= 50


def test_one_job_that_cannot_be_changed_keeps_nothing_from_the_others(world: World) -> None:
    """Its lock is stuck; those behind it are taken back all the same."""
    first, second = sorted(
        (world.add(JobState.RUNNING, attempt=1) for _ in range(2)), key=lambda job: job.id
    )
    lock = world.index.lock

    def stuck(job_id: str) -> AbstractContextManager[Callable[[], None]]:
        if job_id == first.id:
            raise QueueUnavailableError("is being changed by somebody else")
        return lock(job_id)

    world.index.lock = stuck  # type: ignore[method-assign,assignment]
    world.reaper.look()
    assert (world.state(first), world.state(second)) == (JobState.RUNNING, JobState.QUEUED)


def test_a_ghost_in_the_index_is_forgotten(world: World) -> None:
    """A creation broke off between the store and the index: no worker could ever have it."""
    job = world.add()
    world.objects.delete(f"jobs/{job.id}/job.json")
    world.reaper.look()
    world.reaper.look()
    assert world.queue.messages == []
    assert world.index.get(job.id) is None


def test_a_lease_over_a_queued_job_that_stands_still_is_ended(world: World) -> None:
    """Its worker died before it said that it had the job, and Redis keeps the lease for hours."""
    job = world.add()
    world.live.acquire_lease(job.id, "worker", ttl_s=0.1, floor=0)
    world.reaper.look()
    assert world.queue.messages == []
    time.sleep(0.15)
    world.reaper.look()
    assert world.queue.messages == [(0, job.id)]
    assert world.live.leases([job.id]) == {}
