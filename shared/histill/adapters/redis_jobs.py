"""Job records by time, locks, idempotency keys and version numbers, in Redis."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from itertools import chain, product
from typing import TYPE_CHECKING, Any

from redis.exceptions import LockError

from histill.adapters.redis_client import JOB_KEYS, PREFIX, job_key, run_script, translated
from histill.core.errors import QueueUnavailableError
from histill.core.jobs import Job, JobKind, JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from redis import Redis

_RECORDS = f"{PREFIX}job-records"
_REVISIONS = f"{PREFIX}job-revisions"
_UNCLOSED = f"{PREFIX}jobs-unclosed"
# The number is that of this layout: an index of an older one is built anew.
_BUILT = f"{PREFIX}jobs-built:2"
_BUILDING = f"{PREFIX}jobs-building"
_OPEN_STATES = (JobState.QUEUED, JobState.RUNNING)
_LOCK_S = 10.0
_REQUEST_S = 7 * 86400
# A Redis that was started again may lack its last seconds: what it marked counts no more.
_RUN = """
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
"""
_IS_BUILT = f"{_RUN} return redis.call('GET', KEYS[1]) == run and 1 or 0"
_BEGIN = f"{_RUN} return redis.call('SET', KEYS[1], ARGV[1] .. run)"
_MARK = f"""{_RUN}
if redis.call('GET', KEYS[2]) ~= ARGV[1] .. run then return 0 end
redis.call('SET', KEYS[1], run)
return 1
"""
_REBIND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""
_UNLOCK_STUCK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
_CLAIM = f"""{_RUN}
if redis.call('GET', KEYS[1]) ~= run then return false end
if ARGV[1] == '' or redis.call('SET', KEYS[2], ARGV[2], 'NX', 'EX', ARGV[3]) then return ARGV[2] end
return redis.call('GET', KEYS[2])
"""
# Keys: records, revisions, unclosed, all of the project, then one set a state of the
# project, then one set an open state of the kind. Arguments: id, revision, record, place,
# closed or open (0) or ended (1), which of the sets of states and kinds it is in, and the
# key that says that it was deleted.
_SAVE = """
if redis.call('EXISTS', ARGV[9]) == 1 then return 0 end
local before = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or '-1')
if before > tonumber(ARGV[2]) then return 0 end
if before == tonumber(ARGV[2]) and redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[4], 0, ARGV[4])
redis.call(ARGV[5] == '1' and 'SADD' or 'SREM', KEYS[3], ARGV[1])
local states = tonumber(ARGV[6])
for i = 5, 4 + states do
  if i - 4 == tonumber(ARGV[7]) then redis.call('ZADD', KEYS[i], 0, ARGV[4])
  else redis.call('ZREM', KEYS[i], ARGV[4]) end
end
for i = 5 + states, #KEYS do
  if i - 4 - states == tonumber(ARGV[8]) then redis.call('SADD', KEYS[i], ARGV[1])
  else redis.call('SREM', KEYS[i], ARGV[1]) end
end
return 1
"""
_NEXT_VERSION = """
local last = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), tonumber(ARGV[1]) - 1)
redis.call('SET', KEYS[1], last + 1)
return last + 1
"""


def _of_project(project: str, state: JobState | None = None) -> str:
    return f"{PREFIX}jobs:{project}" + (f":{state}" if state else "")


def _open(state: JobState, kind: JobKind) -> str:
    return f"{PREFIX}jobs-open:{state}:{kind}"


class RedisJobIndex:
    """Implements ``JobIndex``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def save(self, job: Job) -> bool:
        """Stores or replaces a record, unless a higher revision is there."""
        states = list(JobState)
        keys = [
            _RECORDS,
            _REVISIONS,
            _UNCLOSED,
            _of_project(job.project),
            *(_of_project(job.project, state) for state in states),
            *(_open(state, job.kind) for state in _OPEN_STATES),
        ]
        is_open = _OPEN_STATES.index(job.state) + 1 if job.state in _OPEN_STATES else 0
        arguments: list[str | int] = [
            job.id,
            job.revision,
            job.model_dump_json(),
            job.place,
            int(job.state.final and not job.closed),
            len(states),
            states.index(job.state) + 1,
            is_open,
            job_key(job.id, "gone"),
        ]
        return bool(run_script(self._client, _SAVE, keys, arguments))

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
        return bool(run_script(self._client, _IS_BUILT, [_BUILT], []))

    def begin_build(self) -> str:
        """Sets a mark that goes when Redis loses its data, or is started again."""
        build = f"{uuid.uuid4().hex} "
        run_script(self._client, _BEGIN, [_BUILDING], [build])
        return build

    def mark_built(self, build: str) -> bool:
        """Sets the mark, if the one from the beginning is still there."""
        return bool(run_script(self._client, _MARK, [_BUILT, _BUILDING], [build]))

    def delete(self, job_id: str) -> None:
        """Forgets a record and every live key of the job."""
        job = self.get(job_id)
        with translated(), self._client.pipeline() as pipe:
            if job:
                for state in (None, *JobState):
                    pipe.zrem(_of_project(job.project, state), job.place)
                for state in _OPEN_STATES:
                    pipe.srem(_open(state, job.kind), job_id)
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
        bound = run_script(self._client, _CLAIM, keys, [key, job_id, _REQUEST_S])
        return str(bound) if bound else None

    def rebind_request(self, key: str, job_id: str, *, instead_of: str) -> None:
        """Binds a key to another job, if it is still bound to that one."""
        keys = [f"{PREFIX}request:{key}"]
        run_script(self._client, _REBIND, keys, [instead_of, job_id, _REQUEST_S])

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
            run_script(self._client, _UNLOCK_STUCK, [job_key(job_id, "lock")], [str(before)])
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
