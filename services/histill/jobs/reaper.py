"""Brings back what was lost: running jobs without a worker, queued jobs without a message."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import (
    CorruptArtifactError,
    HistillError,
    IllegalMoveError,
    NotFoundError,
)
from histill.core.jobs import Job, JobError, JobKind, JobState
from histill.jobs import measures

if TYPE_CHECKING:
    from histill.core.clock import Clock
    from histill.core.job_store import JobStore
    from histill.core.ports import JobIndex, JobQueue, LiveState
    from histill.jobs.settings import ReaperPart

log = structlog.get_logger()


@dataclass
class Reaper:
    """Looks at every open job now and then; one replica at a time does it.

    Attributes:
        owner: Name of this replica, unlike any other's.
        since: When this replica first saw a job as it is, in monotonic seconds.
    """

    owner: str
    jobs: JobStore
    index: JobIndex
    live: LiveState
    queue: JobQueue
    settings: ReaperPart
    clock: Clock
    since: dict[tuple[str, JobState, int], float] = field(default_factory=dict)

    async def run(self) -> None:
        """Looks until it is cancelled; a server that is away is waited for."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except HistillError as exc:
                log.warning("reaper_waits", why=str(exc))
            except Exception:
                log.exception("reaper_stumbled")
            await asyncio.sleep(self.settings.every_s)

    def look(self) -> None:
        """One look at every open job."""
        leads = self.live.lead(self.owner, ttl_s=3 * self.settings.every_s + 5)
        if leads and not self.index.is_built():
            log.info("index_rebuilt", jobs=self.jobs.rebuild())
        jobs, depth = self.index.open_jobs(), self.queue.depth()
        # By every replica: the gauges of a former leader would stand still for ever.
        _publish(jobs, depth)
        if not leads:
            return
        now = time.monotonic()
        present = {(job.id, job.state, job.attempt) for job in jobs}
        self.since = {key: self.since.get(key, now) for key in present}
        for job in jobs:
            waited = now - self.since[job.id, job.state, job.attempt]
            if self.live.leased(job.id):
                continue
            if job.state is JobState.RUNNING and waited >= self.settings.grace_s:
                self._take_back(job)
            elif job.state is JobState.QUEUED and not depth and waited >= self.settings.resubmit_s:
                self._submit(job, "message_lost")

    def _take_back(self, job: Job) -> None:
        try:
            moved = self.jobs.update(job.id, lambda now: self._lost(now, seen=job))
        except (IllegalMoveError, NotFoundError):
            return  # it ended or was deleted meanwhile
        except CorruptArtifactError as exc:
            log.warning("job_record_damaged", job=job.name, why=str(exc))
            return  # the other jobs are still looked at
        if moved.state is JobState.RUNNING or moved.attempt != job.attempt:
            return  # another worker has it by now
        self.live.clear(job.id)
        log.warning("worker_lost", job=job.name, attempt=job.attempt, now=moved.state)
        if moved.state is JobState.QUEUED:
            self._submit(moved, "worker_lost")
        elif moved.state.final:
            self.jobs.close(job.id)

    def _lost(self, job: Job, *, seen: Job) -> Job:
        if (job.state, job.attempt) != (seen.state, seen.attempt):
            return job
        if job.cancel_requested:
            return job.moved_to(JobState.CANCELLED, at=self.clock())
        losses = job.losses + 1
        if losses < self.settings.max_losses:
            return job.moved_to(JobState.QUEUED, at=self.clock(), losses=losses)
        error = JobError(
            reason="WORKER_LOST",
            message=f"its worker was lost {losses} times",
            hint="look for workers that are killed, often for want of memory; then submit it again",
        )
        return job.moved_to(JobState.FAILED, at=self.clock(), error=error)

    def _submit(self, job: Job, why: str) -> None:
        self.queue.submit(job.id, priority=job.priority)
        self.since[job.id, job.state, job.attempt] = time.monotonic()
        log.info("job_resubmitted", job=job.name, why=why)


def _publish(jobs: list[Job], depth: int) -> None:
    measures.QUEUE_DEPTH.set(depth)
    counted = Counter((job.kind, job.state) for job in jobs)
    for kind in JobKind:
        for state in (JobState.QUEUED, JobState.RUNNING):
            measures.JOBS.labels(kind, state).set(counted[kind, state])
