"""What the domain needs from the outside, as Protocols.

``histill.adapters`` implements them over S3, Redis and Celery; the contract
tests in ``tests/integration`` hold each implementation to these words.
"""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from histill.core.events import JobEvent
    from histill.core.jobs import Job, Progress


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

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right under ``prefix`` (which ends in ``/``)."""

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""

    def delete_prefix(self, prefix: str) -> None:
        """Removes every object whose key starts with ``prefix``."""

    def ping(self) -> None:
        """Returns when the store answers and the bucket is there."""


class VersionCounter(Protocol):
    """Hands out version numbers. May raise QueueUnavailableError."""

    def next(self, key: str, *, at_least: int) -> int:
        """A number never handed out before for ``key``, and at least ``at_least``."""

    def ping(self) -> None:
        """Returns when Redis answers."""


class JobIndex(Protocol):
    """Job records by time, for fast reading. May raise QueueUnavailableError.

    A copy of what S3 holds; it can be lost and rebuilt.
    """

    def save(self, job: Job) -> None:
        """Stores or replaces a record."""

    def get(self, job_id: str) -> Job | None:
        """The record, or ``None`` when the index does not hold it."""

    def page(self, *, before: str, limit: int) -> list[Job]:
        """Up to ``limit`` records, newest first, of those before the job id ``before``.

        An empty ``before`` starts from the newest; one that is gone yields nothing.
        """

    def open_jobs(self) -> list[Job]:
        """Records of the jobs that have not ended."""

    def delete(self, job_id: str) -> None:
        """Forgets a record and every live key of the job."""

    def is_built(self) -> bool:
        """Whether ``mark_built`` was called since the index was last lost."""

    def mark_built(self) -> None:
        """Says that the index holds everything that S3 holds."""

    def claim_request(self, request_id: str, job_id: str) -> str:
        """Binds an idempotency key to a job id, unless it is bound; returns the bound id."""

    def lock(self, job_id: str) -> AbstractContextManager[None]:
        """Held by whoever changes a record; waits up to 10 s for another holder."""

    def ping(self) -> None:
        """Returns when Redis answers."""


class EventLog(Protocol):
    """The events of a job, in order, capped. May raise QueueUnavailableError."""

    def append(self, job_id: str, event: JobEvent) -> JobEvent:
        """Adds an event and returns it with its id."""

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Events after the id ``after``, oldest first."""

    def restore(self, job_id: str, events: Iterable[JobEvent]) -> None:
        """Puts archived events back, with their ids, into an empty log."""


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

    def leased(self, job_id: str) -> bool:
        """Whether anybody holds the job's lease."""

    def set_progress(self, job_id: str, progress: Progress, metrics: dict[str, float]) -> None:
        """Replaces the live progress and merges the live metrics."""

    def progress(self, job_id: str) -> tuple[Progress | None, dict[str, float]]:
        """The live progress and metrics."""

    def lead(self, owner: str, *, ttl_s: float) -> bool:
        """Whether ``owner`` is, or now becomes, the one that reaps; lasts ``ttl_s``."""

    def request_cancel(self, job_id: str) -> None:
        """Raises the flag that the supervisor polls."""

    def cancel_requested(self, job_id: str) -> bool:
        """Whether the flag is up."""

    def clear(self, job_id: str) -> None:
        """Drops progress and the cancel flag, at the end of an attempt."""


class JobQueue(Protocol):
    """Hands job ids to workers. May raise QueueUnavailableError."""

    def submit(self, job_id: str, *, priority: int) -> None:
        """Queues a job id; a higher priority (0 to 9) is taken first."""

    def depth(self) -> int:
        """Messages that no worker has taken."""
