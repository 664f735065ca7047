"""Job records: S3 is the durable truth, the index in Redis a copy for fast reading.

A record changes only under its lock, in S3 first. What the index lost is read
from S3 again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from histill.core.errors import (
    AlreadyExistsError,
    CorruptArtifactError,
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
)
from histill.core.events import JobEvent
from histill.core.jobs import Job
from histill.core.manifests import GENERATORS, SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.core.clock import Clock
    from histill.core.ports import EventLog, JobIndex, ObjectStore


log = structlog.get_logger()


def job_prefix(job_id: str) -> str:
    """Key prefix of all that is stored of a job."""
    return f"jobs/{job_id}/"


def report_key(job_id: str) -> str:
    """Key of a job's HTML report."""
    return f"{job_prefix(job_id)}report.html"


def samples_key(job_id: str) -> str:
    """Key of the samples that a data-free job's generators made."""
    return f"{job_prefix(job_id)}{SAMPLES}"


def generators_key(job_id: str) -> str:
    """Key of the weights of a data-free job's generators."""
    return f"{job_prefix(job_id)}{GENERATORS}"


def checkpoint_prefix(job_id: str) -> str:
    """Key prefix of the checkpoints of a job that has not ended."""
    return f"{job_prefix(job_id)}checkpoints/"


def _record_key(job_id: str) -> str:
    return f"{job_prefix(job_id)}job.json"


def _events_key(job_id: str) -> str:
    return f"{job_prefix(job_id)}events.jsonl"


@dataclass(frozen=True)
class JobStore:
    """Creates, reads and changes job records and tells their watchers."""

    objects: ObjectStore
    index: JobIndex
    events: EventLog
    clock: Clock

    def create(self, job: Job) -> Job:
        """Stores a new job, once for each idempotency key.

        Returns:
            The stored job: an earlier one when its ``request_id`` was used before.

        Raises:
            AlreadyExistsError: The key was used for a job with another spec.
        """
        if not job.request_id:
            return self._store_new(job)
        bound = self.index.claim_request(job.request_id, job.id)
        with self.index.lock(bound):
            try:
                earlier = self._read(bound)
            except NotFoundError:
                # The first call stored nothing, or its job was deleted: this takes its place.
                return self._store_new(job.model_copy(update={"id": bound}))
            self._check_same(earlier, job)
            self.index.save(earlier)  # the first call may have ended before this
        return earlier

    def _store_new(self, job: Job) -> Job:
        try:
            self._save(job)
            self.events.append(job.id, JobEvent(time=job.create_time, state=job.state))
        except UnavailableError:
            # The caller hears that it failed, so no half of it may run later.
            with suppress(UnavailableError):
                self.objects.delete(_record_key(job.id))
            with suppress(UnavailableError):
                self.index.delete(job.id)
            raise
        return job

    @staticmethod
    def _check_same(earlier: Job, job: Job) -> None:
        if (earlier.spec, earlier.priority) != (job.spec, job.priority):
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

    def page(self, *, before: str, limit: int) -> list[Job]:
        """Up to ``limit`` jobs, newest first, of those before the job id ``before``."""
        return self.index.page(before=before, limit=limit)

    def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Changes a record under its lock and announces a new state.

        Args:
            job_id: The job.
            change: From the stored record to the new one; may raise to refuse.

        Returns:
            The new record.

        Raises:
            NotFoundError: There is none of that id.
        """
        with self.index.lock(job_id):
            old = self._read(job_id)
            new = change(old)
            if new == old:
                self.index.save(old)  # heals an index that missed an earlier change
                return old
            self.objects.put(_record_key(job_id), new.model_dump_json().encode())
            # From here on it is so, whatever Redis says: nobody may take it for failed.
            try:
                self.index.save(new)
                if new.state is not old.state:
                    state = JobEvent(time=self.clock(), attempt=new.attempt, state=new.state)
                    self.events.append(job_id, state)
            except UnavailableError as exc:
                log.warning("index_behind", job=job_id, state=new.state, why=str(exc))
        return new

    def stored(self, job_id: str) -> Job:
        """The record in S3, past the index.

        Raises:
            NotFoundError: There is none of that id.
        """
        return self._read(job_id)

    def delete(self, job_id: str) -> None:
        """Removes an ended job and all that is stored of it.

        Raises:
            NotFoundError: There is none of that id.
            FailedPreconditionError: It has not ended.
        """
        with self.index.lock(job_id):
            try:
                job = self._read(job_id)
            except NotFoundError:
                self.index.delete(job_id)  # what an earlier call may have left
                raise
            if not job.state.final:
                raise FailedPreconditionError(f"{job.name} is {job.state}; cancel it first")
            self.objects.delete(_record_key(job_id))
            self.objects.delete_prefix(job_prefix(job_id))
            self.index.delete(job_id)

    def close(self, job_id: str) -> None:
        """Writes the event log of an ended job to S3, and drops what only a run needs."""
        lines = [event.model_dump_json() for event in self.events.read(job_id, limit=100_000)]
        self.objects.put(_events_key(job_id), "\n".join(lines).encode())
        self.objects.delete_prefix(checkpoint_prefix(job_id))

    def rebuild(self) -> int:
        """Fills the index and the event logs from S3; returns how many jobs it read."""
        count = 0
        for job_id in self.objects.list_folders("jobs/"):
            try:
                with self.index.lock(job_id):
                    job = self._read(job_id)
                    self.index.save(job)
            except NotFoundError:
                continue
            except CorruptArtifactError as exc:
                # One damaged record must not keep all others away.
                log.warning("job_record_damaged", job=job_id, why=str(exc))
                continue
            if job.request_id:
                self.index.claim_request(job.request_id, job.id)
            if not self.events.read(job_id, limit=1):
                self._restore_events(job)
            count += 1
        self.index.mark_built()
        return count

    def _restore_events(self, job: Job) -> None:
        try:
            lines = self.objects.get(_events_key(job.id)).splitlines()
            archived = [JobEvent.model_validate_json(line) for line in lines]
        except (NotFoundError, ValidationError):
            self.events.append(
                job.id, JobEvent(time=self.clock(), attempt=job.attempt, state=job.state)
            )
            return
        self.events.restore(job.id, archived)

    def _read(self, job_id: str) -> Job:
        try:
            data = self.objects.get(_record_key(job_id))
        except NotFoundError:
            raise NotFoundError(f"jobs/{job_id} does not exist") from None
        try:
            return Job.model_validate_json(data)
        except ValidationError as exc:
            raise CorruptArtifactError(f"{_record_key(job_id)} is not a job record") from exc

    def _save(self, job: Job) -> None:
        self.objects.put(_record_key(job.id), job.model_dump_json().encode())
        self.index.save(job)
