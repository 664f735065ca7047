"""What the jobs service tells of its pools, of running jobs and of ended ones."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects, MemoryQueue
from histill.core.errors import QueueUnavailableError
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState, Progress
from histill.core.names import new_job_id
from histill.core.specs import DataFreeSpec, SupervisedSpec
from histill.jobs.gauges import Gauges
from histill.jobs.reaper import Reaper
from histill.jobs.settings import ReaperPart

NOW = datetime(2026, 5, 4, tzinfo=UTC)
PATIENT = ReaperPart(grace_s=600, resubmit_s=600)


class World:
    """A reaper of a service with the pools ``default`` and ``gpu``."""

    def __init__(self) -> None:
        self.index, self.live, self.queue = MemoryIndex(built=True), MemoryLive(), MemoryQueue()
        self.jobs = JobStore(MemoryObjects(), self.index, MemoryEvents(), lambda: NOW)
        self.reaper = self.replica("me", PATIENT)

    def replica(self, name: str, settings: ReaperPart) -> Reaper:
        gauges = Gauges(self.index, self.live, ("default", "gpu"), lambda: NOW)
        return Reaper(
            name, self.jobs, self.index, self.live, self.queue, gauges, settings, lambda: NOW
        )

    def add(self, *, pool: str = "default", age_s: float = 0, free: bool = False) -> Job:
        spec = (
            DataFreeSpec(output_model="m", teachers=("t",))
            if free
            else SupervisedSpec(dataset="d", output_model="m")
        )
        made = NOW - timedelta(seconds=age_s)
        return self.jobs.create(Job(id=new_job_id(), spec=spec, create_time=made, pool=pool))

    def move(self, job: Job, state: JobState) -> Job:
        return self.jobs.update(job.id, lambda now: now.moved_to(state, at=NOW))


def told(name: str, **labels: Any) -> float | None:
    """A series; ``None`` when there is none."""
    return REGISTRY.get_sample_value(f"histill_{name}", labels)


@pytest.fixture
def world() -> World:
    """An empty world."""
    return World()


def test_demand_counts_what_waits_and_what_runs_by_pool(world: World) -> None:
    """A pool without a job has a series too: whoever scales by it must find a 0."""
    world.add(age_s=30)
    first = world.move(world.add(age_s=90), JobState.RUNNING)
    world.reaper.look()
    assert (told("worker_demand", pool="default"), told("worker_demand", pool="gpu")) == (2, 0)
    assert told("job_queue_oldest_seconds", pool="default") == 30
    assert told("job_queue_oldest_seconds", pool="gpu") == 0
    world.move(first, JobState.SUCCEEDED)
    world.reaper.look()
    assert told("worker_demand", pool="default") == 1


def test_jobs_of_a_pool_that_is_configured_no_more_are_told_until_they_are_gone(
    world: World,
) -> None:
    """Their messages are looked after, and a log line names the pool once."""
    job = world.add(pool="old")
    world.reaper.settings = ReaperPart(grace_s=600, resubmit_s=0, scan_s=0)
    with capture_logs() as lines:
        for _ in range(3):
            world.reaper.look()
    assert [line["pool"] for line in lines if line["event"] == "pool_not_configured"] == ["old"]
    assert told("worker_demand", pool="old") == 1
    assert world.queue.messages == [(0, job.id)]
    assert world.queue.waiting(["old"]) == {job.id}
    world.move(job, JobState.CANCELLED)
    world.reaper.look()
    assert told("worker_demand", pool="old") is None
    assert told("job_queue_oldest_seconds", pool="old") is None


def test_an_index_without_its_data_says_nothing(world: World) -> None:
    """A replica that does not lead keeps its last word: 0 would have running workers ended."""
    world.move(world.add(), JobState.RUNNING)
    other = world.replica("other", PATIENT)
    world.live.leader = "me"
    other.look()
    assert told("worker_demand", pool="default") == 1
    world.index.records.clear()
    world.index.built = False
    other.look()
    assert told("worker_demand", pool="default") == 1


def test_a_replica_that_is_blind_takes_its_numbers_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some looks, and not with 0: an old number may be greater than another replica's."""
    world.move(world.add(), JobState.RUNNING)
    world.reaper.look()
    looked = told("jobs_looked_timestamp_seconds")
    with monkeypatch.context() as patched:
        patched.setattr(world.index, "is_built", away)
        for _ in range(4):
            with pytest.raises(QueueUnavailableError):
                world.reaper.look()
            assert told("worker_demand", pool="default") == 1
        with capture_logs() as lines:
            for _ in range(3):
                with pytest.raises(QueueUnavailableError):
                    world.reaper.look()
    assert [line["event"] for line in lines] == ["gauges_taken_back"]
    kinds = {"kind": "SUPERVISED"}
    for name, labels in (
        ("worker_demand", {"pool": "default"}),
        ("jobs_running", {"pool": "default"}),
        ("job_queue_oldest_seconds", {"pool": "gpu"}),
        ("job_progress_oldest_seconds", kinds),
        ("jobs", kinds | {"state": "RUNNING"}),
    ):
        assert told(name, **labels) is None, name
    depth = told("job_queue_depth")
    assert depth is not None
    assert math.isnan(depth)
    assert told("jobs_looked_timestamp_seconds") == looked
    world.reaper.look()
    assert told("worker_demand", pool="default") == 1
    assert told("jobs", state="RUNNING", **kinds) == 1
    assert told("job_queue_depth") == 0
    assert (told("jobs_looked_timestamp_seconds") or 0) > (looked or 0)


def away() -> bool:
    raise QueueUnavailableError("away")


def test_running_jobs_are_told_by_pool(world: World) -> None:
    """A pool in which none runs says 0."""
    world.move(world.add(pool="gpu"), JobState.RUNNING)
    world.add()
    world.reaper.look()
    assert (told("jobs_running", pool="gpu"), told("jobs_running", pool="default")) == (1, 0)


def test_running_jobs_tell_how_far_they_are_and_since_when_they_are_silent(world: World) -> None:
    """By kind; a kind of which nothing runs any more has no series."""
    jobs = [world.move(world.add(), JobState.RUNNING) for _ in range(2)]
    free = world.move(world.add(free=True), JobState.RUNNING)
    world.live.set_progress(jobs[0].id, Progress(stage="training", step=50, steps=100), {})
    world.live.set_progress(jobs[1].id, Progress(stage="publishing"), {})
    world.live.said[jobs[0].id] -= 40
    world.reaper.look()
    assert told("job_progress_ratio", kind="SUPERVISED") == 0.75
    silent = told("job_progress_oldest_seconds", kind="SUPERVISED")
    assert silent is not None
    assert 40 <= silent < 60
    assert told("job_progress_ratio", kind="DATA_FREE") == 0
    world.move(free, JobState.FAILED)
    world.reaper.look()
    assert told("job_progress_ratio", kind="DATA_FREE") is None
    assert told("job_progress_oldest_seconds", kind="DATA_FREE") is None


def test_a_running_job_that_never_told_anything_is_silent_since_its_start(world: World) -> None:
    """The time of the attempt counts, not that of the job's creation."""
    job = world.move(world.add(age_s=9000), JobState.RUNNING)
    began = NOW - timedelta(seconds=70)
    world.jobs.update(job.id, lambda now: now.model_copy(update={"start_time": began}))
    world.reaper.look()
    assert told("job_progress_oldest_seconds", kind="SUPERVISED") == 70


def test_each_ending_is_counted_once_whoever_ended_it(world: World) -> None:
    """By the replica that leads; a second look, or another replica, counts nothing."""

    def count(state: str) -> float:
        return told("jobs_ended_total", kind="SUPERVISED", state=state) or 0

    before = [count(state) for state in ("SUCCEEDED", "CANCELLED", "FAILED")]
    world.move(world.move(world.add(), JobState.RUNNING), JobState.SUCCEEDED)
    cancelled = world.move(world.add(), JobState.CANCELLED)
    world.live.leader = "me"
    world.replica("other", PATIENT).look()
    assert count("SUCCEEDED") == before[0]
    for _ in range(2):
        world.reaper.look()
    world.jobs.close(cancelled.id)
    world.reaper.look()
    after = [count(state) for state in ("SUCCEEDED", "CANCELLED", "FAILED")]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 0]


def test_a_lost_worker_is_counted_and_its_job_goes_back_to_its_own_pool(world: World) -> None:
    """Not one whose job ended between the look and the move."""
    before = told("jobs_lost_total") or 0
    job = world.move(world.add(pool="gpu"), JobState.RUNNING)
    world.reaper.settings = ReaperPart(grace_s=0)
    world.reaper.look()
    assert world.queue.waiting(["gpu"]) == {job.id}
    assert (told("jobs_lost_total") or 0) - before == 1
    stale = world.move(job, JobState.RUNNING)
    world.move(stale, JobState.SUCCEEDED)
    world.reaper._take_back(stale, "")
    assert (told("jobs_lost_total") or 0) - before == 1
