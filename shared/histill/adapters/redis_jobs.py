"""Job records by time, locks, idempotency keys and version numbers, in Redis."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError

from histill.adapters.redis_client import JOB_KEYS, PREFIX, job_key, run_script, translated
from histill.core.errors import QueueUnavailableError
from histill.core.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

_BY_TIME = f"{PREFIX}jobs"
_RECORDS = f"{PREFIX}job-records"
_OPEN = f"{PREFIX}jobs-open"
_BUILT = f"{PREFIX}jobs-built"
_LOCK_S = 10.0
_REQUEST_DAYS = 7
_NEXT_VERSION = """
local last = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1]) - 1)
redis.call('SET', KEYS[1], last + 1)
return last + 1
"""


class RedisJobIndex:
    """Implements ``JobIndex``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def save(self, job: Job) -> None:
        """Stores or replaces a record."""
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(_RECORDS, job.id, job.model_dump_json())
            pipe.zadd(_BY_TIME, {job.id: job.create_time.timestamp()})
            (pipe.srem if job.state.final else pipe.sadd)(_OPEN, job.id)
            pipe.execute()

    def get(self, job_id: str) -> Job | None:
        """The record, or ``None``."""
        with translated():
            found = self._client.hget(_RECORDS, job_id)
        return Job.model_validate_json(found) if found else None

    def page(self, *, before: str, limit: int) -> list[Job]:
        """Records, newest first."""
        with translated():
            start = 0
            if before:
                rank: Any = self._client.zrevrank(_BY_TIME, before)
                if rank is None:
                    return []
                start = int(rank) + 1
            ids: Any = self._client.zrevrange(_BY_TIME, start, start + limit - 1)
            found = self._client.hmget(_RECORDS, ids) if ids else []
        return [Job.model_validate_json(record) for record in found if record]

    def open_jobs(self) -> list[Job]:
        """Records of the jobs that have not ended."""
        with translated():
            ids: Any = self._client.smembers(_OPEN)
            found = self._client.hmget(_RECORDS, sorted(ids)) if ids else []
        return [Job.model_validate_json(record) for record in found if record]

    def is_built(self) -> bool:
        """Whether the mark is there."""
        with translated():
            return bool(self._client.exists(_BUILT))

    def mark_built(self) -> None:
        """Sets the mark; it goes when Redis loses its data."""
        with translated():
            self._client.set(_BUILT, "1")

    def delete(self, job_id: str) -> None:
        """Forgets a record and every live key of the job."""
        with translated(), self._client.pipeline() as pipe:
            pipe.zrem(_BY_TIME, job_id)
            pipe.srem(_OPEN, job_id)
            pipe.hdel(_RECORDS, job_id)
            pipe.delete(*(job_key(job_id, kind) for kind in JOB_KEYS))
            pipe.execute()

    def claim_request(self, request_id: str, job_id: str) -> str:
        """Binds an idempotency key for a week."""
        key = f"{PREFIX}request:{request_id}"
        with translated():
            if self._client.set(key, job_id, nx=True, ex=_REQUEST_DAYS * 86400):
                return job_id
            return str(self._client.get(key) or job_id)

    @contextmanager
    def lock(self, job_id: str) -> Iterator[None]:
        """Held by whoever changes a record."""
        lock = self._client.lock(
            job_key(job_id, "lock"), timeout=_LOCK_S, blocking_timeout=_LOCK_S, sleep=0.02
        )
        with translated():
            taken = lock.acquire()
        if not taken:
            raise QueueUnavailableError(f"jobs/{job_id} is being changed by somebody else")
        try:
            yield
        finally:
            try:
                with translated():
                    lock.release()
            except (LockError, QueueUnavailableError):
                pass  # it ran out, or Redis left: either way it is not ours any more

    def ping(self) -> None:
        """Returns when Redis answers."""
        with translated():
            self._client.ping()


class RedisVersionCounter:
    """Implements ``VersionCounter``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def next(self, key: str, *, at_least: int) -> int:
        """A number never handed out before for ``key``."""
        return int(run_script(self._client, _NEXT_VERSION, [f"{PREFIX}version:{key}"], [at_least]))

    def ping(self) -> None:
        """Returns when Redis answers."""
        with translated():
            self._client.ping()
