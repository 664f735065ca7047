"""The events of a job as a capped Redis stream; its ids are the events' ids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from histill.adapters.redis_client import job_key, translated
from histill.core.errors import InvalidArgumentError
from histill.core.events import JobEvent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis import Redis

MAX_EVENTS = 5000
_ID = re.compile(r"\d{1,16}-\d{1,9}")


class RedisEventLog:
    """Implements ``EventLog``.

    Args:
        client: Decodes answers to strings.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    def append(self, job_id: str, event: JobEvent) -> JobEvent:
        """Adds an event and returns it with its id."""
        with translated():
            event_id = self._client.xadd(
                job_key(job_id, "events"),
                {"event": event.model_dump_json(exclude={"id"})},
                maxlen=MAX_EVENTS,
                approximate=True,
            )
        return event.model_copy(update={"id": str(event_id)})

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        """Events after the id ``after``.

        Raises:
            InvalidArgumentError: ``after`` is no event id.
        """
        if after and not _ID.fullmatch(after):
            raise InvalidArgumentError.of("after_event_id", f"{after!r} is not an event id")
        with translated():
            found: Any = self._client.xrange(
                job_key(job_id, "events"), f"({after}" if after else "-", count=limit
            )
        return [
            JobEvent.model_validate_json(fields["event"]).model_copy(update={"id": event_id})
            for event_id, fields in found
        ]

    def restore(self, job_id: str, events: Iterable[JobEvent]) -> None:
        """Puts archived events back, with their ids, into an empty log."""
        with translated():
            for event in events:
                fields: dict[Any, Any] = {"event": event.model_dump_json(exclude={"id"})}
                try:
                    self._client.xadd(job_key(job_id, "events"), fields, id=event.id)
                except ResponseError:
                    return  # somebody else restores, or appended: the log is not empty
