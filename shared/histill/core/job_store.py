"""Job records: S3 is the durable truth, the index in Redis a copy for fast reading.

A record changes only under its lock, in S3 first. What the index lost is read from S3
again. A writer that slept through its lock (its process was frozen) can overwrite a newer
record in S3, which has no conditional writes: revisions show it, and the newer one counts.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from histill.core import results
from histill.core.errors import (
    AlreadyExistsError,
    CorruptArtifactError,
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
)
from histill.core.event_archive import archived, write_segment
from histill.core.events import JobEvent, event_order
from histill.core.job_keys import checkpoint_prefix, job_prefix, record_key
from histill.core.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from histill.core.clock import Clock
    from histill.core.jobs import JobState
    from histill.core.ports import EventLog, JobIndex, ObjectStore

_AT_ONCE = 8
# An ended job's events stay in Redis for those who watch it end.
_ENDED_S = 3600.0
_KEPT = 500
_STORING_S = 2.0
# An idempotency key stands for its job this long.
_BOUND = timedelta(days=7)
log = structlog.get_logger()


@dataclass(frozen=True)
class JobStore:
    """Creates, reads and changes job records and tells their watchers."""

    objects: ObjectStore
    index: JobIndex
    events: EventLog
    clock: Clock

    def create(self, job: Job, *, any_pool: bool = False) -> Job:
        """Stores a new job, once for each idempotency key of a project.

        Args:
            job: The new one.
            any_pool: Its pool was not asked for: an earlier job may be of another.

        Returns:
            The stored job: an earlier one when its ``request_id`` was used before.

        Raises:
            AlreadyExistsError: The key was used for a job with another spec.
            UnavailableError: The index is being rebuilt, and does not know all keys yet.
        """
        key = _request_key(job) if job.request_id else ""
        start = time.monotonic()
        bound = self.index.claim_request(key, job.id)
        if bound is None:
            raise UnavailableError("the index of jobs is being rebuilt; try again")
        if bound != job.id:
            self._await_first(bound)
            try:
                return self._repeated(job, self._newest(bound), any_pool=any_pool)
            except NotFoundError:
                # The first call stored nothing, or its job was deleted: a new job takes the key.
                self.index.rebind_request(key, job.id, instead_of=bound)
        self._store_new(job)
        if time.monotonic() - start < _STORING_S:
            return job  # a repetition would still wait for it
        owner = self.index.claim_request(key, job.id)
        if owner == job.id:
            return job
        # This call took so long that a repetition took the key: its job is the one.
        self._take_out(job)
        if owner is None:
            raise UnavailableError("the index of jobs is being rebuilt; try again")
        return self._repeated(job, self._newest(owner), any_pool=any_pool)

    def of_request(self, project: str, request_id: str) -> Job | None:
        """The job that was created under an idempotency key of a project, if there is one.

        Raises:
            UnavailableError: The index is being rebuilt, and does not know all keys yet.
        """
        if not self.index.is_built():
            raise UnavailableError("the index of jobs is being rebuilt; try again")
        bound = self.index.bound_request(f"{project}:{request_id}")
        with suppress(NotFoundError):
            return self._newest(bound) if bound else None
        return None

    def _repeated(self, job: Job, earlier: Job, *, any_pool: bool) -> Job:
        pool = earlier.pool if any_pool else job.pool
        self._check_same(earlier, job.model_copy(update={"pool": pool}))
        self.index.save(earlier)  # the first call may have ended before this
        return earlier

    def _await_first(self, job_id: str) -> None:
        """Gives the call that bound the key time to store its job."""
        deadline = time.monotonic() + _STORING_S
        while time.monotonic() < deadline:
            if self.index.get(job_id):
                return
            time.sleep(_STORING_S / 20)

    def _store_new(self, job: Job) -> None:
        try:
            self._put(job)
            self.index.save(job)
            self.events.append(job.id, JobEvent(time=job.create_time, state=job.state))
        except UnavailableError:
            # The caller hears that it failed, so no half of it may run later.
            self._take_out(job)
            raise

    def _take_out(self, job: Job) -> None:
        """Removes a job that nobody was told of; what fails of that, the reaper finds."""
        with suppress(UnavailableError):
            self.objects.delete(record_key(job.id))
        with suppress(UnavailableError):
            self.index.delete(job.id)

    @staticmethod
    def _check_same(earlier: Job, job: Job) -> None:
        asked = (job.spec, job.priority, job.pool)
        if (earlier.spec, earlier.priority, earlier.pool) != asked:
            raise AlreadyExistsError(
                f"request_id {job.request_id!r} was used for {earlier.name}, which differs; "
                "use a new request_id for a new job"
            )

    def get(self, job_id: str) -> Job:
        """One job.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self.index.get(job_id) or self._read(job_id)

    def page(
        self, *, project: str, before: str, limit: int, states: Collection[JobState] = ()
    ) -> list[Job]:
        """Up to ``limit`` jobs of a project, newest first.

        Args:
            project: Whose.
            before: Only those after this ``Job.place`` in the list; empty: from the newest.
            limit: At most.
            states: Only those in one of these; empty: all.

        Raises:
            UnavailableError: The index is being rebuilt, and would leave some out.
        """
        if not self.index.is_built():
            raise UnavailableError("the index of jobs is being rebuilt; try again")
        return self.index.page(project=project, before=before, limit=limit, states=states)

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Changes a record under its lock and announces a new state.

        Args:
            job_id: The job.
            change: From the stored record to the new one; may raise to refuse.

        Returns:
            The new record.

        Raises:
            NotFoundError: There is none of that id.
            UnavailableError: Nothing changed, or not known whether: read before a retry.
        """
        with self.index.lock(job_id) as held:
            old = self._newest(job_id)
            new = change(old)
            if new == old:
                with suppress(UnavailableError):
                    held()
                    self._heal(old)
                return old
            new = new.model_copy(update={"revision": old.revision + 1})
            held()
            self._put(new)
            # From here on it is so, whatever Redis says: nobody may take it for failed.
            try:
                behind = not self.index.save(new)
            except UnavailableError as exc:
                log.warning("index_behind", job=job_id, state=new.state, why=str(exc))
                return new
            if behind:
                self._give_way(job_id)
            if new.state is not old.state:
                self._announce(new)
        return new

    def _heal(self, job: Job) -> None:
        """Brings a copy up to date that missed an earlier change: the index's, or S3's."""
        self.index.save(job)
        if self._read(job.id).revision < job.revision:
            self._put(job)

    def _give_way(self, job_id: str) -> None:
        """Puts back the newer record, or none, that a frozen writer has just replaced."""
        log.warning("write_came_late", job=job_id)
        if newer := self.index.get(job_id):
            self._put(newer)
            raise UnavailableError(f"jobs/{job_id} was changed by somebody else meanwhile")
        self.objects.delete(record_key(job_id))
        raise NotFoundError(f"jobs/{job_id} does not exist")

    def disown(self, job_id: str, reference: str) -> bool:
        """Removes a version that an attempt made and that did not become the job's result.

        Not while the record still names it: whoever has the job then takes it or removes it.

        Returns:
            Whether it is the result after all.
        """
        with self.index.lock(job_id):
            try:
                job = self._newest(job_id)
            except NotFoundError:
                return (
                    False  # the sweeper knows no job of it; the model may stay, as with DeleteJob
                )
            if job.result_model == results.result_name(reference):
                return True
            if job.state.final or job.publishing != reference:
                results.discard(self.objects, job.model_copy(update={"publishing": reference}))
            return False

    def _announce(self, job: Job) -> None:
        event = JobEvent(time=self.clock(), attempt=job.attempt, state=job.state)
        try:
            self.events.append(job.id, event)
        except UnavailableError as exc:
            log.warning("event_lost", job=job.id, state=job.state, why=str(exc))

    def stored(self, job_id: str) -> Job:
        """The record in S3, past the index.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self._read(job_id)

    def stored_ids(self) -> Iterator[str]:
        """Ids of all jobs of which something is stored, of every project."""
        return self.objects.list_folders("jobs/")

    def delete(self, job_id: str) -> None:
        """Removes an ended job and all that is stored of it.

        Raises:
            NotFoundError: There is none of that id.
            FailedPreconditionError: It has not ended.
        """
        with self.index.lock(job_id) as held:
            try:
                job = self._read(job_id)
            except NotFoundError:
                self.index.delete(job_id)  # what an earlier call may have left
                raise
            if not job.state.final:
                raise FailedPreconditionError(f"{job.name} is {job.state}; cancel it first")
            held()
            results.discard(self.objects, job)
            self.objects.delete(record_key(job_id))
            self.objects.delete_prefix(job_prefix(job_id))
            self.index.delete(job_id)

    def close(self, job_id: str) -> None:
        """Archives the events of an ended job and drops what only a run needs.

        Safe to call again: the reaper does, for jobs whose worker died in between.
        """
        job = self._newest(job_id)
        if job.closed or not job.state.final:
            return
        self.archive(job_id, keep=0)
        self.objects.delete_prefix(checkpoint_prefix(job_id))
        results.discard(self.objects, job)
        self.events.expire(job_id, after_s=_ENDED_S)
        self.update(job_id, lambda now: now.model_copy(update={"closed": True}))

    def archive(self, job_id: str, *, keep: int = _KEPT) -> None:
        """Stores a job's events in S3, and drops them from Redis but for the newest ones."""
        last = self.events.archived_through(job_id)
        events = self.events.read(job_id, after=last, limit=1_000_000)
        write_segment(self.objects, job_id, events)
        if events:
            first_kept = events[-keep:][0].id if keep and len(events) > keep else ""
            self.events.mark_archived(job_id, through=events[-1].id, keep_from=first_kept)

    def history(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Events after an id, oldest first, from the archive as far as Redis lacks them.

        Raises:
            InvalidArgumentError: ``after`` is no event id.
        """
        live = self.events.read(job_id, after=after, limit=limit)
        first, last = self.events.ends(job_id)
        if first and last:
            if after and event_order(after) > event_order(last.id):
                # Redis came back empty, and its clock behind: all it has is new.
                return self.events.read(job_id, limit=limit)
            if first.begins or (after and event_order(after) >= event_order(first.id)):
                return live
        older = (
            event
            for event in archived(self.objects, job_id, after=after)
            if first is None or event_order(event.id) < event_order(first.id)
        )
        return list(islice(older, limit)) or live

    def rebuild(self) -> int:
        """Fills the index from S3; returns how many jobs it read.

        Raises:
            UnavailableError: A server went away, or Redis lost its data meanwhile.
        """
        build = self.index.begin_build()
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="rebuild") as pool:
            count = sum(pool.map(self._rebuilt, self.objects.list_folders("jobs/")))
        self.index.mend()
        if not self.index.mark_built(build):
            raise UnavailableError("the index was lost while it was being rebuilt")
        return count

    def _rebuilt(self, job_id: str) -> bool:
        try:
            job = self._newest(job_id)
            # Without the lock, which may be stuck: an older record replaces none.
            if not self.index.save(job) and self.index.get(job_id) is None:
                self.objects.delete(record_key(job_id))  # a sleeper's, of a job that was deleted
                return False
        except NotFoundError:
            return False
        except CorruptArtifactError as exc:
            # One damaged record must not keep all others away.
            log.warning("job_record_damaged", job=job_id, why=str(exc))
            return False
        if job.request_id and self.clock() - job.create_time < _BOUND:
            self.index.bind_request(_request_key(job), job.id)
        if not job.closed and not any(self.events.ends(job_id)):
            # Its watchers hear where it is; how it came there is lost, but for the archive.
            self._announce(job)
        return True

    def _newest(self, job_id: str) -> Job:
        """The record with the highest revision; S3's when there is no other."""
        stored = self._read(job_id)
        indexed = self.index.get(job_id)
        return indexed if indexed and indexed.revision > stored.revision else stored

    def _read(self, job_id: str) -> Job:
        try:
            data = self.objects.get(record_key(job_id))
        except NotFoundError:
            raise NotFoundError(f"jobs/{job_id} does not exist") from None
        try:
            return Job.model_validate_json(data)
        except ValidationError as exc:
            raise CorruptArtifactError(f"{record_key(job_id)} is not a job record") from exc

    def _put(self, job: Job) -> None:
        self.objects.put(record_key(job.id), job.model_dump_json().encode())


def _request_key(job: Job) -> str:
    return f"{job.project}:{job.request_id}"
