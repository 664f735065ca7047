"""What happens between a reaper's look and its move."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects, MemoryQueue
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState, Progress
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec
from histill.jobs import measures
from histill.jobs.gauges import Gauges
from histill.jobs.reaper import Reaper
from histill.jobs.settings import ReaperPart

NOW = datetime(2026, 5, 4, tzinfo=UTC)


class Racing(MemoryLive):
    """Another worker starts the job right after it was found without a lease."""

    jobs: JobStore | None = None

    def revoke_lease(self, job_id: str, seen: str, *, floor: int) -> bool:
        if self.jobs:
            jobs, self.jobs = self.jobs, None
            jobs.update(job_id, lambda job: job.moved_to(JobState.QUEUED, at=NOW))
            jobs.update(job_id, lambda job: job.moved_to(JobState.RUNNING, at=NOW))
            self.set_progress(job_id, Progress(stage="training"), {})
        return super().revoke_lease(job_id, seen, floor=floor)


def world() -> tuple[Reaper, JobStore, Racing]:
    index, live = MemoryIndex(built=True), Racing()
    jobs = JobStore(MemoryObjects(), index, MemoryEvents(), lambda: NOW)
    patience = ReaperPart(grace_s=0, resubmit_s=0)
    queue = MemoryQueue()
    gauges = Gauges(index, live, ("default",), lambda: NOW)
    return Reaper("me", jobs, index, live, queue, gauges, patience, lambda: NOW), jobs, live


def running(jobs: JobStore) -> Job:
    spec = SupervisedSpec(dataset="d", output_model="m")
    job = jobs.create(Job(id=new_job_id(), spec=spec, create_time=NOW))
    return jobs.update(job.id, lambda j: j.moved_to(JobState.RUNNING, at=NOW))


def test_a_new_attempt_is_not_taken_back_for_the_old_one() -> None:
    """The job stays with the worker that has it now, and its progress stays too."""
    reaper, jobs, live = world()
    job = running(jobs)
    live.jobs = jobs
    reaper.look()
    now = jobs.get(job.id)
    assert (now.state, now.attempt) == (JobState.RUNNING, 2)
    assert live.progress(job.id)[0] is not None
    assert reaper.queue.depth(["default"]) == 0


def test_one_damaged_record_does_not_stop_the_reaper() -> None:
    """The job behind it is taken back all the same."""
    reaper, jobs, _ = world()
    first, second = sorted((running(jobs), running(jobs)), key=lambda job: job.id)
    jobs.objects.put(f"jobs/{first.id}/job.json", b"{")
    reaper.look()
    assert jobs.get(second.id).state is JobState.QUEUED


@pytest.mark.parametrize("leader", ["me", "other"])
def test_every_replica_tells_the_counts(leader: str) -> None:
    """A former leader's gauges would stand still, and be summed or shown for ever."""
    reaper, jobs, live = world()
    live.leader = leader
    reaper.settings = ReaperPart()
    running(jobs)
    measures.JOBS.labels("SUPERVISED", "RUNNING").set(99)
    reaper.look()
    labels = {"kind": "SUPERVISED", "state": "RUNNING"}
    assert REGISTRY.get_sample_value("histill_jobs", labels) == 1
