"""Leases, progress and cancel flags of running jobs, in Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from histill.adapters.redis_client import PREFIX, job_key, run_script, translated
from histill.core.jobs import Progress
from histill.core.ports import SeenLease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis import Redis

# A lease holds "owner fence ttl_ms beat". The fence never goes back, so that a holder which
# slept through its lease can be told from the next one for ever. The beat grows with every
# renewal: keys run out by the clock of Redis, which may jump, but a beat that stands still
# has lost its holder.
_ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local floor = tonumber(ARGV[3])
local fence = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), floor) + 1
redis.call('SET', KEYS[2], fence, 'EX', ARGV[4])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. fence .. ' ' .. ARGV[2] .. ' 0', 'PX', ARGV[2])
return fence
"""
_MINE = """
local owner, fence, beat = string.match(redis.call('GET', KEYS[1]) or '', '^(%S+) (%d+) %d+ (%d+)$')
local mine = owner == ARGV[1] and fence == ARGV[2]
"""
_RENEW = f"""{_MINE}
if not mine then return 0 end
local renewed = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. (tonumber(beat) + 1)
redis.call('SET', KEYS[1], renewed, 'PX', ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 1
"""
_RELEASE = f"""{_MINE}
if mine then return redis.call('DEL', KEYS[1]) end
return 0
"""
_RESTORE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[4])
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' 0', 'PX', ARGV[3])
return 1
"""
_REVOKE = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
local fence = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[2])) + 1
redis.call('SET', KEYS[2], fence, 'EX', ARGV[3])
redis.call('DEL', KEYS[1])
return 1
"""
# A leader's value is "owner beat"; ARGV[3] is one that has stood still for too long.
_LEAD = """
local leader = redis.call('GET', KEYS[1]) or ''
local owner, beat = string.match(leader, '^(%S+) (%d+)$')
if owner and owner ~= ARGV[1] and leader ~= ARGV[3] then return leader end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. (tonumber(beat or '0') + 1), 'PX', ARGV[2])
return ''
"""
_FORGET_S = 86400
# Nothing of a job that came to no proper end stays for ever.
_KEPT_S = 30 * 86400


class RedisLiveState:
    """Implements ``LiveState``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        # The other leader as it was last seen, and since when by a clock that cannot jump.
        self._leader = ("", 0.0)

    def acquire_lease(self, job_id: str, owner: str, *, ttl_s: float, floor: int) -> int | None:
        """Takes the lease unless somebody holds it."""
        keys = [job_key(job_id, "lease"), job_key(job_id, "fence")]
        arguments: list[str | int] = [owner, int(1000 * ttl_s), floor, _KEPT_S]
        fence = run_script(self._client, _ACQUIRE, keys, arguments)
        return None if fence is None else int(fence)

    def renew_lease(self, job_id: str, owner: str, fence: int, *, ttl_s: float) -> bool:
        """Renews a lease that is still held with that number."""
        keys = [job_key(job_id, "lease"), job_key(job_id, "fence")]
        arguments: list[str | int] = [owner, fence, int(1000 * ttl_s), _KEPT_S]
        return bool(run_script(self._client, _RENEW, keys, arguments))

    def restore_lease(self, job_id: str, owner: str, fence: int, *, ttl_s: float) -> bool:
        """Takes a lease again that ran out early."""
        keys = [job_key(job_id, "lease"), job_key(job_id, "fence")]
        arguments: list[str | int] = [owner, fence, int(1000 * ttl_s), _KEPT_S]
        return bool(run_script(self._client, _RESTORE, keys, arguments))

    def release_lease(self, job_id: str, owner: str, fence: int) -> None:
        """Gives a lease up that is still held with that number."""
        run_script(self._client, _RELEASE, [job_key(job_id, "lease")], [owner, fence])

    def leases(self, job_ids: Sequence[str]) -> dict[str, SeenLease]:
        """The leases of those jobs that have one."""
        with translated():
            keys = [job_key(job_id, "lease") for job_id in job_ids]
            found: Any = self._client.mget(keys) if keys else []
        return {
            job_id: SeenLease(token, int(token.split(" ")[2]) / 1000)
            for job_id, token in zip(job_ids, found, strict=True)
            if token
        }

    def revoke_lease(self, job_id: str, seen: str, *, floor: int) -> bool:
        """Ends a lease that is as it was seen."""
        keys = [job_key(job_id, "lease"), job_key(job_id, "fence")]
        return bool(run_script(self._client, _REVOKE, keys, [seen, floor, _KEPT_S]))

    def set_progress(self, job_id: str, progress: Progress, metrics: dict[str, float]) -> None:
        """Replaces the live progress and merges the live metrics."""
        with translated(), self._client.pipeline() as pipe:
            pipe.set(job_key(job_id, "progress"), progress.model_dump_json(), ex=_KEPT_S)
            if metrics:
                values: dict[Any, Any] = {name: repr(value) for name, value in metrics.items()}
                pipe.hset(job_key(job_id, "metrics"), mapping=values)
                pipe.expire(job_key(job_id, "metrics"), _KEPT_S)
            pipe.execute()

    def progress(self, job_id: str) -> tuple[Progress | None, dict[str, float]]:
        """The live progress and metrics."""
        with translated(), self._client.pipeline() as pipe:
            pipe.get(job_key(job_id, "progress"))
            pipe.hgetall(job_key(job_id, "metrics"))
            progress, metrics = pipe.execute()
        found = Progress.model_validate_json(progress) if progress else None
        return found, {name: float(value) for name, value in metrics.items()}

    def told(self, job_ids: Sequence[str]) -> dict[str, tuple[Progress, float]]:
        """Live progress of those jobs that have some, and seconds since it was told."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.get(job_key(job_id, "progress"))
                pipe.pttl(job_key(job_id, "progress"))
            found = iter(pipe.execute())
        # It is kept for as long from each time that it is told, whoever tells it.
        return {
            job_id: (Progress.model_validate_json(said), max(0.0, _KEPT_S - left_ms / 1000))
            for job_id, said, left_ms in zip(job_ids, found, found, strict=True)
            if said
        }

    def lead(self, owner: str, *, ttl_s: float) -> bool:
        """Whether ``owner`` is, or now becomes, the one that reaps."""
        seen, since = self._leader
        stale = seen if seen and time.monotonic() - since > ttl_s else ""
        keys = [f"{PREFIX}reaper"]
        leader = str(run_script(self._client, _LEAD, keys, [owner, int(1000 * ttl_s), stale]))
        if leader != seen:
            self._leader = (leader, time.monotonic())
        return not leader

    def request_cancel(self, job_id: str) -> None:
        """Raises the flag that the supervisor polls."""
        with translated():
            self._client.set(job_key(job_id, "cancel"), "1", ex=_KEPT_S)

    def cancel_requested(self, job_id: str) -> bool:
        """Whether the flag is up."""
        with translated():
            return bool(self._client.exists(job_key(job_id, "cancel")))

    def clear(self, job_id: str) -> None:
        """Drops progress, metrics and the cancel flag."""
        with translated():
            self._client.delete(
                *(job_key(job_id, kind) for kind in ("progress", "metrics", "cancel"))
            )

    def forget(self, job_id: str) -> None:
        """Lets the fence run out: kept for a while, so that a late holder hears of it."""
        with translated():
            self._client.expire(job_key(job_id, "fence"), _FORGET_S)
