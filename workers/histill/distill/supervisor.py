"""Runs a job on this worker: takes the lease, makes one attempt, gives the lease up.

Safe to call twice for one job: the second call finds the lease held or the job
ended, and returns.
"""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import (
    CorruptArtifactError,
    IllegalMoveError,
    NotFoundError,
    UnavailableError,
)
from histill.core.jobs import Job, JobState
from histill.distill.attempt import Attempt, close
from histill.distill.stops import Lease, watched
from histill.distill.worker import Worker

if TYPE_CHECKING:
    from histill.core.clock import Clock

__all__ = ["Worker", "run_job"]
log = structlog.get_logger()


def run_job(job_id: str, worker: Worker) -> None:
    """Runs a job, unless somebody else does or it has ended."""
    try:
        lease = _taken(job_id, worker)
        if lease is not None:
            _run(lease, worker)
    except CorruptArtifactError as exc:
        log.warning("job_record_damaged", job=job_id, why=str(exc))
    except UnavailableError as exc:
        # The message is gone, the record is not: the reaper sees one without the other.
        log.warning("job_left_to_reaper", job=job_id, why=str(exc))


def _taken(job_id: str, worker: Worker) -> Lease | None:
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    try:
        floor = worker.jobs.stored(job_id).fence
    except NotFoundError:
        log.info("job_is_gone", job=job_id)
        return None
    ttl_s = worker.settings.lease_ttl_s
    fence = worker.live.acquire_lease(job_id, owner, ttl_s=ttl_s, floor=floor)
    if fence is None:
        log.info("job_already_leased", job=job_id)
        return None
    return Lease(job_id, owner, fence)


def _run(lease: Lease, worker: Worker) -> None:
    settings = worker.settings
    try:
        with watched(
            lease,
            worker.live,
            worker.jobs,
            worker.draining,
            ttl_s=settings.lease_ttl_s,
            poll_s=settings.poll_s,
        ) as stop:
            try:
                job = worker.jobs.update(
                    lease.job_id, lambda job: _started(job, lease.fence, worker.clock)
                )
            except (IllegalMoveError, NotFoundError) as exc:
                log.info("job_not_startable", job=lease.job_id, why=str(exc))
                return
            if job.state is JobState.RUNNING:
                Attempt(worker, job, stop).run()
            else:
                close(job, worker)
    finally:
        worker.live.release_lease(lease.job_id, lease.owner, lease.fence)


def _started(job: Job, fence: int, clock: Clock) -> Job:
    if job.fence >= fence:
        # Redis forgot a number that the record knows: ours is not the newest after all.
        raise IllegalMoveError(f"{job.name} was started under a later lease")
    if job.cancel_requested and not job.state.final:
        return job.moved_to(JobState.CANCELLED, at=clock())
    if job.state is JobState.RUNNING:
        # Its last worker is gone (we hold the lease) and nobody has put it back yet.
        job = job.moved_to(JobState.QUEUED, at=clock(), losses=job.losses + 1)
    return job.moved_to(JobState.RUNNING, at=clock(), fence=fence)
