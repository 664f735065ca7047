"""The events of a job as a capped Redis stream; its ids are the events' ids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from histill.adapters.redis_client import job_key, run_script, translated
from histill.core.errors import InvalidArgumentError
from histill.core.events import JobEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis import Redis

# Of a job whose events nobody archives, S3 being away.
MAX_EVENTS = 20_000
_AT_ONCE = 500
# A worker that slept through its lease has things to say when it wakes.
_APPEND = """
if tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[1]) then return false end
redis.call('SET', KEYS[2], ARGV[1])
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[2])
"""
_ID = re.compile(r"\d{1,16}-\d{1,9}")


class RedisEventLog:
    """Implements ``EventLog``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def append(self, job_id: str, event: JobEvent) -> JobEvent | None:
        """Adds an event and returns it with its id, unless a later attempt has begun."""
        keys = [job_key(job_id, "events"), job_key(job_id, "attempt")]
        said = event.model_dump_json(exclude={"id"})
        event_id = run_script(self._client, _APPEND, keys, [event.attempt, said, MAX_EVENTS])
        return event.model_copy(update={"id": str(event_id)}) if event_id else None

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Events after the id ``after``."""
        if after and not _ID.fullmatch(after):
            raise InvalidArgumentError.of("after_event_id", f"{after!r} is not an event id")
        with translated():
            found: Any = self._client.xrange(
                job_key(job_id, "events"), f"({after}" if after else "-", count=limit
            )
        return [_event(*each) for each in found]

    def ends(self, job_id: str) -> tuple[JobEvent | None, JobEvent | None]:
        """The first and the last event that are kept."""
        key = job_key(job_id, "events")
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.xrange(key, count=1)
            pipe.xrevrange(key, count=1)
            first, last = pipe.execute()
        return (_event(*first[0]) if first else None, _event(*last[0]) if last else None)

    def follow(self, after: Mapping[str, str], *, wait_s: float) -> dict[str, list[JobEvent]]:
        """Events of several jobs after an id each; one command, whatever their number."""
        streams: dict[Any, Any] = {
            job_key(job_id, "events"): last or "0" for job_id, last in after.items()
        }
        with translated():
            found: Any = self._client.xread(streams, count=_AT_ONCE, block=int(1000 * wait_s))
        by_key = {job_key(job_id, "events"): job_id for job_id in after}
        pairs = found.items() if isinstance(found, dict) else found or ()
        return {by_key[key]: [_event(*each) for each in _flat(events)] for key, events in pairs}

    def archived_through(self, job_id: str) -> str:
        """Id of the last archived event."""
        with translated():
            return str(self._client.get(job_key(job_id, "archived")) or "")

    def mark_archived(self, job_id: str, *, through: str, keep_from: str) -> None:
        """Notes what was archived, and drops what comes before ``keep_from``."""
        with translated(), self._client.pipeline() as pipe:
            pipe.set(job_key(job_id, "archived"), through)
            if keep_from:
                pipe.xtrim(job_key(job_id, "events"), minid=keep_from, approximate=False)
            pipe.execute()

    def expire(self, job_id: str, *, after_s: float) -> None:
        """Drops the events some time from now."""
        with translated(), self._client.pipeline() as pipe:
            pipe.expire(job_key(job_id, "events"), int(after_s))
            pipe.expire(job_key(job_id, "archived"), int(after_s))
            pipe.expire(job_key(job_id, "attempt"), int(after_s))
            pipe.execute()


def _event(event_id: str, fields: Mapping[str, str]) -> JobEvent:
    return JobEvent.model_validate_json(fields["event"]).model_copy(update={"id": event_id})


def _flat(events: Any) -> Any:
    """The events of a stream: the newer protocol wraps them in one more list."""
    return events[0] if events and isinstance(events[0], list) else events
