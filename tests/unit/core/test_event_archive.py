"""Archived events, of workers that do not know of each other."""

from __future__ import annotations

from datetime import UTC, datetime

from fakes import MemoryObjects
from histill.core.event_archive import archived, write_segment
from histill.core.events import JobEvent

EVENTS = [
    JobEvent(id=f"{number}-0", time=datetime(2026, 5, 4, tzinfo=UTC), log=str(number))
    for number in range(1, 31)
]


def test_who_slept_replaces_no_longer_segment() -> None:
    """Two segments that begin with the same event are kept both, and each event is read once."""
    objects = MemoryObjects()
    write_segment(objects, "j", EVENTS[:20])
    write_segment(objects, "j", EVENTS[:5])
    write_segment(objects, "j", EVENTS[20:])
    assert list(archived(objects, "j")) == EVENTS
    for after in range(1, 30):
        assert list(archived(objects, "j", after=f"{after}-0")) == EVENTS[after:]


def test_segments_named_by_their_first_event_alone_are_read() -> None:
    """Earlier versions wrote them so."""
    objects = MemoryObjects()
    lines = "\n".join(event.model_dump_json() for event in EVENTS[:20])
    objects.put("jobs/j/events/0000000000000001-000000000.jsonl", lines.encode())
    write_segment(objects, "j", EVENTS[20:])
    assert list(archived(objects, "j", after="7-0")) == EVENTS[7:]
