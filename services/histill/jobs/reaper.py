"""Brings back what was lost: running jobs without a worker, queued jobs without a message."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from histill.core import results
from histill.core.errors import (
    HistillError,
    IllegalMoveError,
    NotFoundError,
)
from histill.core.jobs import Job, JobError, JobState
from histill.jobs import measures

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterator

    from histill.core.clock import Clock
    from histill.core.job_store import JobStore
    from histill.core.ports import JobIndex, JobQueue, LiveState, SeenLease
    from histill.jobs.gauges import Gauges
    from histill.jobs.settings import ReaperPart

log = structlog.get_logger()


@dataclass
class Patience:
    """How long something has been as it is, by a clock that cannot jump.

    Attributes:
        since: When each thing was first seen, in monotonic seconds.
    """

    since: dict[Hashable, float] = field(default_factory=dict)

    def waited(self, present: Collection[Hashable]) -> dict[Hashable, float]:
        """Seconds for which each has been seen without a break; forgets all others."""
        now = time.monotonic()
        self.since = {thing: self.since.get(thing, now) for thing in present}
        return {thing: now - start for thing, start in self.since.items()}


@dataclass
class Reaper:
    """Looks at what is open now and then; one replica at a time does it.

    Attributes:
        owner: Name of this replica, unlike any other's.
        leads: Whether it did at its last look.
    """

    owner: str
    jobs: JobStore
    index: JobIndex
    live: LiveState
    queue: JobQueue
    gauges: Gauges
    settings: ReaperPart
    clock: Clock
    unrenewed: Patience = field(default_factory=Patience)
    messageless: Patience = field(default_factory=Patience)
    unclosed: Patience = field(default_factory=Patience)
    taken: Patience = field(default_factory=Patience)
    leads: bool = False
    _scanned: float = field(default=-1e9)

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
        """One look at every job that runs, and now and then at those that wait."""
        try:
            self._look()
            measures.LOOKED.set_to_current_time()
        finally:
            self.gauges.age()

    def _look(self) -> None:
        leads = self.live.lead(self.owner, ttl_s=3 * self.settings.every_s + 5)
        built = self.index.is_built()
        if leads and not built:
            log.info("index_rebuilt", jobs=self.jobs.rebuild())
        # Those of a pool that the settings name no more are kept, too.
        loads = self.gauges.loads()
        depth = self.queue.depth(loads)
        if leads or built:
            # By every replica: the gauges of a former leader would stand still for ever. Not from
            # an index without its data: workers that are scaled by them would be taken away.
            self.gauges.publish(depth, loads)
        if leads:
            self._look_at_queued(depth, loads)
            self._look_at_running()
            self._look_at_ended()
            self._count_ended()
        self.leads = leads

    def _look_at_running(self) -> None:
        running = self.index.running()
        leases = self.live.leases([job.id for job in running])
        # A lease that nobody renews counts as none, however long Redis would keep it.
        seen = {job.id: (job.id, job.attempt, _token(leases.get(job.id))) for job in running}
        waited = self.unrenewed.waited(seen.values())
        for job in running:
            lease = leases.get(job.id)
            patience = self.settings.grace_s + (lease.ttl_s if lease else 0)
            if waited[seen[job.id]] >= patience:
                with _alone(job.id):
                    self._take_back(job, _token(lease))

    def _look_at_queued(self, depth: int, pools: Collection[str]) -> None:
        if depth and time.monotonic() - self._scanned < self.settings.scan_s:
            return
        self._scanned = time.monotonic()
        missing = self.index.queued() - (self.queue.waiting(pools) if depth else set())
        missing -= self._being_taken(missing)
        waited = self.messageless.waited(missing)
        for job_id in sorted(missing):
            if waited[job_id] < self.settings.resubmit_s:
                continue
            with _alone(job_id):
                self._look_at_message(job_id)
            self.messageless.since.pop(job_id, None)

    def _being_taken(self, job_ids: Collection[str]) -> set[str]:
        """Those whose lease beats: a worker has the message, and will say so in the record."""
        leases = self.live.leases(sorted(job_ids))
        seen = {job_id: (job_id, lease.token) for job_id, lease in leases.items()}
        waited = self.taken.waited(seen.values())
        alive = set()
        for job_id, lease in leases.items():
            if waited[seen[job_id]] < lease.ttl_s + self.settings.grace_s:
                alive.add(job_id)
            else:
                # Its worker died before it said so, and the clock of Redis keeps the lease.
                self.live.revoke_lease(job_id, lease.token, floor=0)
        return alive

    def _look_at_message(self, job_id: str) -> None:
        try:
            job = self.jobs.stored(job_id)
        except NotFoundError:
            self.index.delete(job_id)  # a creation or a deletion that broke off
            return
        if job.state is JobState.QUEUED:
            self._submit(job, "message_lost")

    def _look_at_ended(self) -> None:
        unclosed = self.index.unclosed()
        waited = self.unclosed.waited(unclosed)
        for job_id in sorted(unclosed):
            if waited[job_id] >= self.settings.grace_s:
                with _alone(job_id):
                    self._close(job_id)

    def _count_ended(self) -> None:
        # Whoever ended them: a worker may be gone before anybody reads its counters.
        for (kind, state), count in self.index.take_ended().items():
            measures.ENDED.labels(kind, state).inc(count)

    def _take_back(self, job: Job, seen: str) -> None:
        if not self.live.revoke_lease(job.id, seen, floor=job.fence):
            return  # somebody is alive after all
        taken = False

        def take(now: Job) -> Job:
            nonlocal taken
            after = self._lost(now, seen=job)
            taken = after is not now
            return after

        try:
            moved = self.jobs.update(job.id, take)
        except IllegalMoveError:
            return  # it ended meanwhile
        except NotFoundError:
            self.index.delete(job.id)
            return
        if not taken:
            return  # another worker has it by now, or it ended
        measures.LOST.inc()
        self.live.clear(job.id)
        log.warning("worker_lost", job=job.name, attempt=job.attempt, now=moved.state)
        if moved.state is JobState.QUEUED:
            self._submit(moved, "worker_lost")
        elif moved.state.final:
            self._close(job.id)

    def _lost(self, job: Job, *, seen: Job) -> Job:
        if (job.state, job.attempt) != (seen.state, seen.attempt):
            return job
        if result := results.published(self.jobs.objects, job):
            # Its worker died between publishing and saying so.
            name = results.result_name(result.reference)
            return job.moved_to(
                JobState.SUCCEEDED, at=self.clock(), result_model=name, metrics=result.metrics
            )
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
        self.queue.submit(job.id, priority=job.priority, pool=job.pool)
        log.info("job_resubmitted", job=job.name, why=why)

    def _close(self, job_id: str) -> None:
        try:
            self.jobs.close(job_id)
        except NotFoundError:
            self.index.delete(job_id)
            return
        self.live.clear(job_id)
        self.live.forget(job_id)


@contextmanager
def _alone(job_id: str) -> Iterator[None]:
    """What goes wrong with one job is told, and keeps nothing from the others."""
    try:
        yield
    except (HistillError, ValidationError) as exc:
        log.warning("job_waits", job=job_id, why=f"{type(exc).__name__}: {exc}")


def _token(lease: SeenLease | None) -> str:
    return lease.token if lease else ""
