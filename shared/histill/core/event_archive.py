"""Events of a job in the object store: what Redis drops, or never kept.

Segments ``jobs/{id}/events/{first event}.jsonl`` are written once each. Two workers that
both believe they own a job may archive the same events; a reader takes each id once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from histill.core.errors import NotFoundError
from histill.core.events import JobEvent, event_order

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from histill.core.ports import ObjectStore


def events_prefix(job_id: str) -> str:
    """Key prefix of a job's archived events."""
    return f"jobs/{job_id}/events/"


def _segment_key(job_id: str, first_id: str) -> str:
    time, number = event_order(first_id)
    return f"{events_prefix(job_id)}{time:016}-{number:09}.jsonl"


def write_segment(objects: ObjectStore, job_id: str, events: Sequence[JobEvent]) -> None:
    """Stores some events, oldest first, as one object; nothing when there are none."""
    if events:
        lines = "\n".join(event.model_dump_json() for event in events)
        objects.put(_segment_key(job_id, events[0].id), lines.encode())


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
    """Keys of the segments that may hold events after an id."""
    keys = list(objects.list(events_prefix(job_id)))
    limit = _segment_key(job_id, after)
    begun = [index for index, key in enumerate(keys) if key <= limit]
    return keys[begun[-1] if begun else 0 :]
