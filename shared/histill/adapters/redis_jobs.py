"""Job records by time, locks, idempotency keys and version numbers, in Redis."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import chain, product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from redis.exceptions import LockError

from histill.adapters import redis_job_scripts as scripts
from histill.adapters.redis_client import JOB_KEYS, PREFIX, job_key, run_script, translated
from histill.core.errors import QueueUnavailableError
from histill.core.jobs import Job, JobKind, JobState
from histill.core.pools import PoolLoad

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from redis import Redis

_RECORDS = f"{PREFIX}job-records"
_REVISIONS = f"{PREFIX}job-revisions"
_UNCLOSED = f"{PREFIX}jobs-unclosed"
_POOLS = f"{PREFIX}job-pools"
_ENDED = f"{PREFIX}jobs-ended"
# The number is that of this layout: an index of an older one is built anew.
_BUILT = f"{PREFIX}jobs-built:3"
_OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)
_LOCK_S = 10.0
_REQUEST_S = 7 * 86400
# Longer than any build, and than Redis may be away from who takes endings.
_UNFINISHED_S = 86400


def _of_project(project: str, state: JobState | None = None) -> str:
    return f"{PREFIX}jobs:{project}" + (f":{state}" if state else "")


def _open(state: JobState, kind: JobKind) -> str:
    return f"{PREFIX}jobs-open:{state}:{kind}"


def _in_pool(pool: str, state: JobState) -> str:
    return f"{PREFIX}jobs-of-pool:{pool}:{state}"


def _building(build: str) -> str:
    return f"{PREFIX}jobs-building:{build}"


def _since_ms(job: Job) -> int:
    """Since when an open job has been in its state; of one that waits the first answer counts."""
    first = job.create_time if not job.attempt else job.start_time
    return round(1000 * (first.timestamp() if first else time.time()))


class RedisJobIndex:
    """Implements ``JobIndex``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._name = uuid.uuid4().hex
        self._taken = 0

    def save(self, job: Job) -> bool:
        """Stores or replaces a record, unless a higher revision is there."""
        text = job.model_dump_json()
        stored = self._store(job, text)
        if not isinstance(stored, str):
            return bool(stored)
        # Another version writes the same record in other words, and may have left out sets that
        # this one has: they follow from what is stored, which stays.
        kept = Job.model_validate_json(stored)
        self._store(kept, stored)
        return kept.model_dump_json() == text

    def _store(self, job: Job, text: str) -> Any:
        states = list(JobState)
        keys = [
            _RECORDS,
            _REVISIONS,
            _UNCLOSED,
            _of_project(job.project),
            _POOLS,
            _ENDED,
            *(_of_project(job.project, state) for state in states),
            *(_open(state, job.kind) for state in _OPEN_STATES),
            *(_in_pool(job.pool, state) for state in _OPEN_STATES),
        ]
        is_open = _OPEN_STATES.index(job.state) + 1 if job.state in _OPEN_STATES else 0
        arguments: list[str | int] = [
            job.id,
            job.revision,
            text,
            job.place,
            int(job.state.final and not job.closed),
            len(states),
            states.index(job.state) + 1,
            is_open,
            job_key(job.id, "gone"),
            job.pool,
            _since_ms(job),
            f"{job.kind}:{job.state}",
        ]
        return run_script(self._client, scripts.SAVE, keys, arguments)

    def get(self, job_id: str) -> Job | None:
        """The record, or ``None``."""
        with translated():
            found = self._client.hget(_RECORDS, job_id)
        return Job.model_validate_json(found) if found else None

    def page(
        self, *, project: str, before: str, limit: int, states: Collection[JobState]
    ) -> list[Job]:
        """Records, newest first: no more of them are read than are returned."""
        keys = [_of_project(project, state) for state in states] or [_of_project(project)]
        start = f"({before}" if before else "+"
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.zrevrangebylex(key, start, "-", start=0, num=limit)
            places = sorted(chain.from_iterable(pipe.execute()), reverse=True)[:limit]
        return self._records(place.partition("-")[2] for place in places)

    def running(self) -> list[Job]:
        """Records of all running jobs."""
        return self._records(sorted(self._ids(JobState.RUNNING)))

    def queued(self) -> set[str]:
        """Ids of all queued jobs."""
        return self._ids(JobState.QUEUED)

    def unclosed(self) -> set[str]:
        """Ids of ended jobs that are not closed."""
        with translated():
            found: Any = self._client.smembers(_UNCLOSED)
        return set(found)

    def counts(self) -> dict[tuple[JobKind, JobState], int]:
        """How many jobs are queued and running, by kind."""
        wanted = list(product(JobKind, _OPEN_STATES))
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for kind, state in wanted:
                pipe.scard(_open(state, kind))
            return dict(zip(wanted, pipe.execute(), strict=True))

    def pools(self) -> dict[str, PoolLoad]:
        """What each pool has to do for which there was ever a job."""
        names = self._pool_names()
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zcard(_in_pool(name, JobState.QUEUED))
                pipe.zcard(_in_pool(name, JobState.RUNNING))
                pipe.zrange(_in_pool(name, JobState.QUEUED), 0, 0, withscores=True)
            found = iter(pipe.execute())
        return {
            name: PoolLoad(queued, running, _time(oldest[0][1]) if oldest else None)
            for name, queued, running, oldest in zip(names, found, found, found, strict=True)
        }

    def running_since(self) -> dict[JobKind, dict[str, datetime]]:
        """Since when each running job runs, by kind and id."""
        names = self._pool_names()
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.zrange(_in_pool(name, JobState.RUNNING), 0, -1, withscores=True)
            for kind in JobKind:
                pipe.smembers(_open(JobState.RUNNING, kind))
            found = pipe.execute()
        since = dict(chain.from_iterable(found[: len(names)]))
        return {
            kind: {job_id: _time(since[job_id]) for job_id in ids if job_id in since}
            for kind, ids in zip(JobKind, found[len(names) :], strict=True)
        }

    def _pool_names(self) -> list[str]:
        with translated():
            members: Any = self._client.smembers(_POOLS)
        return sorted(members)

    def take_ended(self) -> dict[tuple[JobKind, JobState], int]:
        """How many jobs have ended since somebody asked, by kind and how.

        One of which Redis told when nobody heard it is told again, to the same index.
        """
        now, before = (f"{_ENDED}:{self._name}:{n}" for n in (self._taken, self._taken - 1))
        found = run_script(self._client, scripts.TAKE, [_ENDED, now, before], [_UNFINISHED_S])
        self._taken += 1
        ended = {}
        for name, count in zip(found[::2], found[1::2], strict=True):
            kind, _, state = str(name).partition(":")
            ended[JobKind(kind), JobState(state)] = int(count)
        return ended

    def _ids(self, state: JobState) -> set[str]:
        with translated():
            found: Any = self._client.sunion([_open(state, kind) for kind in JobKind])
        return set(found)

    def _records(self, ids: Iterable[str]) -> list[Job]:
        wanted = list(ids)
        with translated():
            found: Any = self._client.hmget(_RECORDS, wanted) if wanted else []
        return [Job.model_validate_json(record) for record in found if record]

    def is_built(self) -> bool:
        """Whether the mark is there."""
        return bool(run_script(self._client, scripts.IS_BUILT, [_BUILT], []))

    def begin_build(self) -> str:
        """Sets a mark that goes when Redis loses its data, or is started again.

        Each build has its own: replicas that build at the same time do not disturb each other.
        """
        build = uuid.uuid4().hex
        run_script(self._client, scripts.BEGIN, [_building(build)], [_UNFINISHED_S])
        return build

    def mark_built(self, build: str) -> bool:
        """Sets the mark, if the one from the beginning is still there."""
        return bool(run_script(self._client, scripts.MARK, [_BUILT, _building(build)], []))

    def mend(self) -> None:
        """Saves what is open again, and drops from the pools what is not."""
        ids = sorted(self._ids(JobState.QUEUED) | self._ids(JobState.RUNNING))
        with translated():
            texts: Any = self._client.hmget(_RECORDS, ids) if ids else []
        for text in filter(None, texts):
            # One of a later version, whose spec says more than this one knows, is left to it.
            with suppress(ValidationError):
                self._store(Job.model_validate_json(text), text)
        for name, state in product(self._pool_names(), _OPEN_STATES):
            keys = [_in_pool(name, state), *(_open(state, kind) for kind in JobKind)]
            run_script(self._client, scripts.DROP_STRAYS, keys, [])

    def delete(self, job_id: str) -> None:
        """Forgets a record and every live key of the job."""
        job = self.get(job_id)
        with translated(), self._client.pipeline() as pipe:
            if job:
                for state in (None, *JobState):
                    pipe.zrem(_of_project(job.project, state), job.place)
                for state in _OPEN_STATES:
                    pipe.srem(_open(state, job.kind), job_id)
                    pipe.zrem(_in_pool(job.pool, state), job_id)
            pipe.srem(_UNCLOSED, job_id)
            pipe.hdel(_RECORDS, job_id)
            pipe.hdel(_REVISIONS, job_id)
            pipe.delete(*(job_key(job_id, kind) for kind in JOB_KEYS))
            # A writer that slept through the deletion brings nothing back.
            pipe.set(job_key(job_id, "gone"), "1", ex=_REQUEST_S)
            pipe.execute()

    def claim_request(self, key: str, job_id: str) -> str | None:
        """Binds an idempotency key for a week."""
        keys = [_BUILT, f"{PREFIX}request:{key}"]
        bound = run_script(self._client, scripts.CLAIM, keys, [key, job_id, _REQUEST_S])
        return str(bound) if bound else None

    def bound_request(self, key: str) -> str | None:
        """The id that a key is bound to."""
        with translated():
            found = self._client.get(f"{PREFIX}request:{key}")
        return str(found) if found else None

    def rebind_request(self, key: str, job_id: str, *, instead_of: str) -> None:
        """Binds a key to another job, if it is still bound to that one."""
        keys = [f"{PREFIX}request:{key}"]
        run_script(self._client, scripts.REBIND, keys, [instead_of, job_id, _REQUEST_S])

    def bind_request(self, key: str, job_id: str) -> None:
        """Binds a key while the index is being built."""
        with translated():
            self._client.set(f"{PREFIX}request:{key}", job_id, nx=True, ex=_REQUEST_S)

    @contextmanager
    def lock(self, job_id: str) -> Iterator[Callable[[], None]]:
        """Held by whoever changes a record."""
        lock = self._client.lock(
            job_key(job_id, "lock"), timeout=_LOCK_S, blocking_timeout=_LOCK_S, sleep=0.02
        )
        before: Any = None
        with translated():
            taken = lock.acquire(blocking=False)
            if not taken:
                before = self._client.get(job_key(job_id, "lock"))
                taken = lock.acquire()
        if not taken and before:
            # One holder all the time, and past its own: dead, though the clock of Redis, which
            # may have jumped, would keep its lock.
            run_script(self._client, scripts.UNLOCK_STUCK, [job_key(job_id, "lock")], [str(before)])
            with translated():
                taken = lock.acquire(blocking=False)
        if not taken:
            raise QueueUnavailableError(f"jobs/{job_id} is being changed by somebody else")

        def held() -> None:
            with translated():
                ours = lock.owned()
            if not ours:
                raise QueueUnavailableError(f"the lock of jobs/{job_id} ran out; try again")

        try:
            yield held
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


def _time(score: Any) -> datetime:
    return datetime.fromtimestamp(float(score) / 1000, UTC)


class RedisVersionCounter:
    """Implements ``VersionCounter``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def next(self, key: str, *, at_least: int) -> int:
        """A number never handed out before for ``key``."""
        return int(
            run_script(self._client, scripts.NEXT_VERSION, [f"{PREFIX}version:{key}"], [at_least])
        )

    def ping(self) -> None:
        """Returns when Redis answers."""
        with translated():
            self._client.ping()
