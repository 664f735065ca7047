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
        try:
            job = worker.jobs.stored(job_id)
        except NotFoundError:
            log.info("job_is_gone", job=job_id)
            return
        # What is logged of it is found under the request that asked for it.
        with structlog.contextvars.bound_contextvars(request_id=job.origin.request_id):
            lease = _taken(job, worker)
            if lease is not None:
                _run(lease, worker)
    except CorruptArtifactError as exc:
        log.warning("job_record_damaged", job=job_id, why=str(exc))
    except UnavailableError as exc:
        # The message is gone, the record is not: the reaper sees one without the other.
        log.warning("job_left_to_reaper", job=job_id, why=str(exc))


def _taken(job: Job, worker: Worker) -> Lease | None:
    owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    ttl_s = worker.settings.lease_ttl_s
    fence = worker.live.acquire_lease(job.id, owner, ttl_s=ttl_s, floor=job.fence)
    if fence is None:
        log.info("job_already_leased", job=job.id)
        return None
    return Lease(job.id, owner, fence)


def _run(lease: Lease, worker: Worker) -> None:
    settings = worker.settings
    try:
        with (
            worker.vitals.watching(lease.job_id) as looked,
            watched(
                lease,
                worker.live,
                worker.jobs,
                worker.draining,
                looked,
                ttl_s=settings.lease_ttl_s,
                poll_s=settings.poll_s,
            ) as stop,
        ):
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
