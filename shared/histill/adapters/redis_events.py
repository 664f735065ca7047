"""The events of a job as a capped Redis stream; its ids are the events' ids."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError

from histill.adapters.redis_client import job_key, run_script, translated
from histill.core.errors import InvalidArgumentError
from histill.core.events import JobEvent, event_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis import Redis

# Of a job whose events nobody archives, S3 being away.
MAX_EVENTS = 20_000
_AT_ONCE = 500
_DAY_S = 86_400
# Of a job of which nothing is heard any more, whatever became of it.
_FORGET_S = 30 * _DAY_S
_BEGINS, _GOES_ON, _ENDS = 0, 1, 2
# A worker that slept through its lease has things to say when it wakes: nothing is heard of
# an earlier attempt, nor after the end. An id may begin anew after its job was deleted.
_APPEND = """
if ARGV[4] == '0' then
  redis.call('DEL', KEYS[3])
elseif redis.call('EXISTS', KEYS[3]) == 1 then
  return false
end
if tonumber(redis.call('GET', KEYS[2]) or '0') > tonumber(ARGV[1]) then return false end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[5])
if ARGV[4] == '2' then redis.call('SET', KEYS[3], '1', 'EX', ARGV[6]) end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'event', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('EXPIRE', KEYS[4], ARGV[5])
return id
"""
# Who slept may have archived less than others did meanwhile.
_MARK = """
local function order(id)
  local time, number = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(time or 0), tonumber(number or 0)
end
local time, number = order(ARGV[1])
local old_time, old_number = order(redis.call('GET', KEYS[1]) or '')
if time > old_time or (time == old_time and number > old_number) then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
end
if ARGV[2] ~= '' then redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[2]) end
"""
_ID = re.compile(r"\d{1,16}-\d{1,9}")
log = structlog.get_logger()


class RedisEventLog:
    """Implements ``EventLog``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._complained = False

    def append(self, job_id: str, event: JobEvent) -> JobEvent | None:
        """Adds an event, and returns it with its id.

        Nothing is added, and ``None`` returned, once a later attempt has begun or the job
        has ended.
        """
        keys = [job_key(job_id, kind) for kind in ("events", "attempt", "ended", "archived")]
        said = event.model_dump_json(exclude={"id"})
        arguments: list[str | int]
        arguments = [event.attempt, said, MAX_EVENTS, _place(event), _FORGET_S, _DAY_S]
        event_id = run_script(self._client, _APPEND, keys, arguments)
        return event.model_copy(update={"id": str(event_id)}) if event_id else None

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Events after the id ``after``, but for those that this version cannot read."""
        if after and not _ID.fullmatch(after):
            raise InvalidArgumentError.of("after_event_id", f"{after!r} is not an event id")
        with translated():
            found: Any = self._client.xrange(
                job_key(job_id, "events"), f"({after}" if after else "-", count=limit
            )
        return [event for each in found if (event := self._parsed(*each))]

    def ends(self, job_id: str) -> tuple[JobEvent | None, JobEvent | None]:
        """The first and the last event that are kept."""
        key = job_key(job_id, "events")
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.xrange(key, count=1)
            pipe.xrevrange(key, count=1)
            first, last = pipe.execute()
        return (
            self._event(*first[0]) if first else None,
            self._event(*last[0]) if last else None,
        )

    def follow(self, after: Mapping[str, str], *, wait_s: float) -> dict[str, list[JobEvent]]:
        """Events of several jobs after an id each; one command, whatever their number.

        An event that this version cannot read says nothing, but has its id.
        """
        streams: dict[Any, Any] = {
            job_key(job_id, "events"): last or "0" for job_id, last in after.items()
        }
        with translated():
            found: Any = self._client.xread(streams, count=_AT_ONCE, block=int(1000 * wait_s))
        by_key = {job_key(job_id, "events"): job_id for job_id in after}
        pairs = found.items() if isinstance(found, dict) else found or ()
        return {
            by_key[key]: [self._event(*each) for each in _flat(events)] for key, events in pairs
        }

    def archived_through(self, job_id: str) -> str:
        """Id of the last archived event."""
        with translated():
            return str(self._client.get(job_key(job_id, "archived")) or "")

    def mark_archived(self, job_id: str, *, through: str, keep_from: str) -> None:
        """Notes what was archived, never less than before; drops what is before ``keep_from``."""
        keys = [job_key(job_id, "archived"), job_key(job_id, "events")]
        run_script(self._client, _MARK, keys, [through, keep_from, _FORGET_S])

    def expire(self, job_id: str, *, after_s: float) -> None:
        """Drops the events some time from now; until then and for a day none comes."""
        with translated(), self._client.pipeline() as pipe:
            for kind in ("events", "archived", "attempt"):
                pipe.expire(job_key(job_id, kind), int(after_s))
            pipe.set(job_key(job_id, "ended"), "1", ex=_DAY_S)
            pipe.execute()

    def _event(self, event_id: str, fields: Mapping[str, str]) -> JobEvent:
        time = datetime.fromtimestamp(event_order(event_id)[0] / 1000, UTC)
        return self._parsed(event_id, fields) or JobEvent(time=time, id=event_id)

    def _parsed(self, event_id: str, fields: Mapping[str, str]) -> JobEvent | None:
        """An event; none when it was written by a version that says more than this one knows."""
        try:
            event = JobEvent.model_validate_json(fields["event"])
        except (ValidationError, KeyError) as exc:
            if not self._complained:
                log.warning("event_not_read", event_id=event_id, why=type(exc).__name__)
            self._complained = True
            return None
        return event.model_copy(update={"id": event_id})


def _place(event: JobEvent) -> int:
    if event.begins:
        return _BEGINS
    return _ENDS if event.state is not None and event.state.final else _GOES_ON


def _flat(events: Any) -> Any:
    """The events of a stream: the newer protocol wraps them in one more list."""
    return events[0] if events and isinstance(events[0], list) else events
