"""Events of a job in the object store: what Redis drops, or never kept.

Segments ``jobs/{id}/events/{first event}-{last event}.jsonl`` are written once each. Two
workers that both believe they own a job may archive the same events, one of them more of
them; a reader takes each id once.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydantic import ValidationError

from histill.core.errors import NotFoundError
from histill.core.events import JobEvent, event_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from histill.core.ports import ObjectStore

_LAST = re.compile(r"/\d{16}-\d{9}-(\d{16}-\d{9})\.jsonl$")


def events_prefix(job_id: str) -> str:
    """Key prefix of a job's archived events."""
    return f"jobs/{job_id}/events/"


def _segment_key(job_id: str, first_id: str, last_id: str) -> str:
    return f"{events_prefix(job_id)}{_padded(first_id)}-{_padded(last_id)}.jsonl"


def _padded(event_id: str) -> str:
    """Sorts as text as ids do by their numbers."""
    time, number = event_order(event_id)
    return f"{time:016}-{number:09}"


def write_segment(objects: ObjectStore, job_id: str, events: Sequence[JobEvent]) -> None:
    """Stores some events, oldest first, as one object; nothing when there are none."""
    if events:
        lines = "\n".join(event.model_dump_json() for event in events)
        objects.put(_segment_key(job_id, events[0].id, events[-1].id), lines.encode())


def archived(objects: ObjectStore, job_id: str, *, after: str = "") -> Iterator[JobEvent]:
    """Archived events after an id, oldest first, each once; damaged lines are left out."""
    last = event_order(after)
    for key in _segments(objects, job_id, after=after):
        try:
            lines = objects.get(key).splitlines()
        except NotFoundError:
            continue  # the job was deleted meanwhile
        for line in lines:
            try:
                event = JobEvent.model_validate_json(line)
            except ValidationError:
                continue
            if event_order(event.id) > last:
                last = event_order(event.id)
                yield event


def _segments(objects: ObjectStore, job_id: str, *, after: str) -> list[str]:
    """Keys of the segments that may hold events after an id, by their first events."""
    limit = _padded(after)
    return [
        key
        for key in objects.list(events_prefix(job_id))
        if (last := _LAST.search(key)) is None or last[1] > limit
    ]
