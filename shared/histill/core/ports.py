"""What the domain needs from the outside, as Protocols.

``histill.adapters`` implements them over S3, Redis and Celery; the contract
tests in ``tests/integration`` hold each implementation to these words.
"""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path

    from histill.core.events import JobEvent
    from histill.core.jobs import Job, JobKind, JobState, Progress
    from histill.core.pools import PoolLoad


@dataclass(frozen=True)
class SeenLease:
    """A lease as somebody sees it who does not hold it.

    Attributes:
        token: Differs after every renewal: one that stands still has lost its holder,
            whatever the clock of Redis says.
        ttl_s: Seconds within which its holder renews it.
    """

    token: str
    ttl_s: float


class ObjectStore(Protocol):
    """Objects by key, in one bucket. Every method may raise StorageUnavailableError."""

    def put(self, key: str, data: bytes) -> None:
        """Stores ``data`` under ``key``, replacing what was there."""

    def put_file(self, key: str, path: Path) -> None:
        """Stores a file's bytes under ``key`` without holding them in memory."""

    def get(self, key: str) -> bytes:
        """The object's bytes.

        Raises:
            NotFoundError: There is no such object.
        """

    def read(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        """The object's bytes in chunks; the connection closes when the iterator does.

        Raises:
            NotFoundError: There is no such object; raised at the first chunk.
        """

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted, whatever their depth."""

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys that start with ``prefix``, sorted, with their sizes in bytes."""

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right under ``prefix`` (which ends in ``/``)."""

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Removes every object whose key starts with ``prefix``."""

    def keeps_versions(self) -> bool:
        """Whether what is removed or replaced stays in the bucket as an older version."""

    def ping(self) -> None:
        """Returns when the store answers and the bucket is there."""


class VersionCounter(Protocol):
    """Hands out version numbers. May raise QueueUnavailableError."""

    def next(self, key: str, *, at_least: int) -> int:
        """A number never handed out before for ``key``, and at least ``at_least``."""

    def ping(self) -> None:
        """Returns when Redis answers."""


class JobIndex(Protocol):
    """Copies of job records for fast reading. May raise QueueUnavailableError."""

    def save(self, job: Job) -> bool:
        """Stores or replaces a record; whether it did.

        Not when a higher revision is there, or another record of the same one, or when the
        job was deleted within a week. Whatever else is told of a job follows from the record
        that is there afterwards.
        """

    def get(self, job_id: str) -> Job | None:
        """The record, or ``None`` when the index does not have it."""

    def page(
        self, *, project: str, before: str, limit: int, states: Collection[JobState]
    ) -> list[Job]:
        """Records of a project in some states (none given: in all), newest first.

        ``before`` is a ``Job.place``, which need not be anybody's; empty means the newest.
        """

    def running(self) -> list[Job]:
        """Records of all running jobs, of every project."""

    def queued(self) -> set[str]:
        """Ids of all queued jobs, of every project."""

    def unclosed(self) -> set[str]:
        """Ids of the jobs that have ended and are not closed."""

    def counts(self) -> dict[tuple[JobKind, JobState], int]:
        """How many jobs are queued and running, by kind."""

    def pools(self) -> dict[str, PoolLoad]:
        """What each pool has to do for which there was ever a job; reads no record."""

    def running_since(self) -> dict[JobKind, dict[str, datetime]]:
        """Since when each running job runs, by kind and id; reads no record."""

    def take_ended(self) -> dict[tuple[JobKind, JobState], int]:
        """How many jobs have ended since somebody asked, by kind and how; each is told once.

        One of which the index did not hear while it was queued or running is not counted, nor
        one whose telling was lost together with who asked.
        """

    def delete(self, job_id: str) -> None:
        """Forgets a record and every live key of the job."""

    def is_built(self) -> bool:
        """Whether ``mark_built`` was called since the index was last lost."""

    def begin_build(self) -> str:
        """Says that the index is being filled; returns what ``mark_built`` takes."""

    def mark_built(self, build: str) -> bool:
        """Says that the index holds everything that S3 holds.

        Returns:
            Whether it was kept since ``begin_build``; else it must be filled again. Others may
            have begun and ended meanwhile.
        """

    def mend(self) -> None:
        """Brings ``pools`` and ``running_since`` in step with the records of open jobs."""

    def claim_request(self, key: str, job_id: str) -> str | None:
        """Binds an idempotency key to a job id, unless it is bound; returns the bound id.

        ``None`` while the index is not built: it does not know all keys. An empty key binds
        nothing, and returns ``job_id``.
        """

    def bound_request(self, key: str) -> str | None:
        """The job id that an idempotency key is bound to, or ``None``."""

    def rebind_request(self, key: str, job_id: str, *, instead_of: str) -> None:
        """Binds a key to another job, if it is still bound to that one."""

    def bind_request(self, key: str, job_id: str) -> None:
        """Binds a key while the index is being built, unless it is bound."""

    def lock(self, job_id: str) -> AbstractContextManager[Callable[[], None]]:
        """Held by whoever changes a record; waits up to 10 s for another holder.

        Yields a function that raises QueueUnavailableError when the lock has run out.
        """

    def ping(self) -> None:
        """Returns when Redis answers."""


class EventLog(Protocol):
    """The events of a job, in order, capped. May raise QueueUnavailableError."""

    def append(self, job_id: str, event: JobEvent) -> JobEvent | None:
        """Adds an event and returns it with its id.

        ``None``, and nothing is added, when an event of a later attempt is there, or the
        job has ended.
        """

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Events after the id ``after``, oldest first.

        Raises:
            InvalidArgumentError: ``after`` is no event id.
        """

    def ends(self, job_id: str) -> tuple[JobEvent | None, JobEvent | None]:
        """The first and the last event that are kept."""

    def follow(self, after: Mapping[str, str], *, wait_s: float) -> dict[str, list[JobEvent]]:
        """Events of several jobs after an id each; waits for the first one.

        One that this version cannot read has an id, and says nothing.

        Args:
            after: Job id to the last event seen; an empty one means from the first.
            wait_s: How long to wait; then there are none.
        """

    def archived_through(self, job_id: str) -> str:
        """Id of the last event that was archived; empty when none was."""

    def mark_archived(self, job_id: str, *, through: str, keep_from: str) -> None:
        """Notes what was archived, and drops what comes before ``keep_from`` (empty: nothing).

        What is noted never goes back.
        """

    def expire(self, job_id: str, *, after_s: float) -> None:
        """Drops the events some time from now."""


class LiveState(Protocol):
    """Live facts of running jobs. May raise QueueUnavailableError."""

    def acquire_lease(self, job_id: str, owner: str, *, ttl_s: float, floor: int) -> int | None:
        """Takes the lease; its fencing number is larger than any before for this job.

        ``floor`` is the number in the job's record: it counts when Redis lost its own.

        ``None`` while another owner holds it.
        """

    def renew_lease(self, job_id: str, owner: str, fence: int, *, ttl_s: float) -> bool:
        """Whether the owner still held the lease with that number, now renewed."""

    def release_lease(self, job_id: str, owner: str, fence: int) -> None:
        """Gives the lease up if it is still held with that number."""

    def restore_lease(self, job_id: str, owner: str, fence: int, *, ttl_s: float) -> bool:
        """Takes a lease again that ran out early (Redis lost it, or its clock jumped).

        Only for whom the job's record still names; whether nobody had a later number.
        """

    def leases(self, job_ids: Sequence[str]) -> dict[str, SeenLease]:
        """The leases of those jobs that have one."""

    def revoke_lease(self, job_id: str, seen: str, *, floor: int) -> bool:
        """Ends a lease that is as it was seen, so that its holder can never renew it.

        Args:
            job_id: The job.
            seen: ``SeenLease.token``, or empty when there was none.
            floor: The number in the job's record.

        Returns:
            Whether it was still so; else somebody is alive.
        """

    def set_progress(self, job_id: str, progress: Progress, metrics: dict[str, float]) -> None:
        """Replaces the live progress and merges the live metrics."""

    def progress(self, job_id: str) -> tuple[Progress | None, dict[str, float]]:
        """The live progress and metrics."""

    def told(self, job_ids: Sequence[str]) -> dict[str, tuple[Progress, float]]:
        """Live progress of those jobs that have some, and seconds since it was told."""

    def lead(self, owner: str, *, ttl_s: float) -> bool:
        """Whether ``owner`` is, or now becomes, the one that reaps; lasts ``ttl_s``."""

    def request_cancel(self, job_id: str) -> None:
        """Raises the flag that the supervisor polls."""

    def cancel_requested(self, job_id: str) -> bool:
        """Whether the flag is up."""

    def clear(self, job_id: str) -> None:
        """Drops progress and the cancel flag, at the end of an attempt."""

    def forget(self, job_id: str) -> None:
        """Lets everything live about an ended job run out within a day."""


class JobQueue(Protocol):
    """Hands job ids to workers. May raise QueueUnavailableError."""

    def submit(self, job_id: str, *, priority: int, pool: str) -> None:
        """Queues a job id for a pool's workers; a higher priority (0 to 9) is taken first."""

    def waiting(self, pools: Collection[str]) -> set[str]:
        """Job ids whose message no worker of those pools has taken."""

    def depth(self, pools: Collection[str]) -> int:
        """Messages that no worker of those pools has taken."""


@dataclass(frozen=True)
class Mention:
    """Where in Redis something is mentioned.

    Attributes:
        key: Of Redis.
        member: Field, member, item or entry of that key; empty when the key's own name or
            its only value mentions it.
        text: What was found there.
    """

    key: str
    member: str
    text: str


class Traces(Protocol):
    """All that Redis keeps for histill, whatever its type. May raise QueueUnavailableError."""

    def find(self, matches: Callable[[str], bool]) -> tuple[int, list[Mention]]:
        """How many keys there are, and where a name or a value matches."""

    def erase(self, mentions: Iterable[Mention]) -> int:
        """Removes keys, or the members that were found in them; how many were still there."""


@dataclass(frozen=True)
class Told:
    """What a worker said last of its disk.

    Attributes:
        asked: Number of the question that it had read before it looked.
        held: Versions of datasets, ``PROJECT/NAME@VERSION``, and jobs, ``jobs/ID``, of which
            something lies there.
    """

    asked: int
    held: frozenset[str]


class Holdings(Protocol):
    """What workers' disks hold, as they tell it. May raise QueueUnavailableError."""

    def ask(self) -> int:
        """Asks all workers to look; the number of the question grows."""

    def asked(self) -> int:
        """Number of the last question, 0 before the first."""

    def tell(self, worker: str, told: Told, *, ttl_s: float) -> None:
        """Replaces what a worker said; it counts as living for so long."""

    def told(self) -> dict[str, Told]:
        """What each living worker said last."""

    def leave(self, worker: str) -> None:
        """Forgets a worker that holds nothing and will look no more."""
