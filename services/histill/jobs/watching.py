"""One reader of Redis for all watchers of jobs, however many there are.

A thread waits for the next event of any watched job and hands it to that job's watchers.
A watcher reads by itself only what came before it, and what it was too slow to take.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.core.errors import HistillError, UnavailableError
from histill.core.events import JobEvent, event_order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from histill.core.job_store import JobStore

_WAIT_S = 0.25
_AWAY_S = 0.5
# Beyond it a watcher is behind, and reads again from where it was.
_MOST_WAITING = 2000
# A state may be missing from the events: it was stored while Redis was away.
_LOOK_EVERY_S = 5.0
# Fewer events at once than the archive leaves in the log: no other was dropped before them.
_MANY = 100
log = structlog.get_logger()


@dataclass(eq=False)
class _Watcher:
    """Events that one watcher has yet to take."""

    waiting: deque[JobEvent] = field(default_factory=deque)
    behind: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def give(self, events: list[JobEvent]) -> None:
        if len(self.waiting) + len(events) > _MOST_WAITING:
            self.fall_behind()
        elif not self.behind:  # else they would be taken for what follows
            self.waiting.extend(events)
        self.news.set()

    def fall_behind(self) -> None:
        """Makes it read for itself from where it was."""
        self.waiting.clear()
        self.behind = True
        self.news.set()

    def take(self) -> list[JobEvent]:
        """What has come since the last call."""
        self.news.clear()
        events = list(self.waiting)
        self.waiting.clear()
        return events


@dataclass
class Watching:
    """Follows jobs for any number of watchers.

    Attributes:
        jobs: Where events and records are.
    """

    jobs: JobStore
    _draining: bool = False
    _watchers: defaultdict[str, set[_Watcher]] = field(default_factory=lambda: defaultdict(set))
    # Written by the loop, read and written by the reader's thread: always under the lock.
    _positions: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _any: threading.Event = field(default_factory=threading.Event)
    _stopped: bool = False

    async def follow(self, job_id: str, *, after: str) -> AsyncIterator[JobEvent]:
        """Events of a job after an id, each once, until it has ended.

        Raises:
            InvalidArgumentError: ``after`` is no event id.
            NotFoundError: The job was deleted.
            UnavailableError: The service stops, or a store is away; go on from the last event.
        """
        _, last = await asyncio.to_thread(self.jobs.events.ends, job_id)
        with self._watched(job_id, last.id if last else "") as watcher:
            caught_up = False
            while not self._draining:
                if watcher.behind:
                    watcher.behind = caught_up = False
                if caught_up:
                    news = await _next(watcher)
                    if watcher.behind:
                        continue
                    # Some of them may have been read already, while catching up.
                    events = [e for e in news if _later(e, after)]
                    # Also the reader may be mistaken: Redis may have come back empty, its
                    # clock behind, and then all that is new looks old.
                    caught_up = bool(events)
                else:
                    events = await asyncio.to_thread(self.jobs.history, job_id, after=after)
                    caught_up = not events
                    if events and not _later(events[0], after):
                        self._read_anew(job_id)
                for event in events:
                    after = event.id
                    yield event
                    if event.state is not None and event.state.final:
                        return
                if not events and await self._over(job_id, after):
                    return
        raise UnavailableError("the service is stopping; watch again from the last event")

    def drain(self) -> None:
        """Sends every watcher away, who then goes on elsewhere."""
        self._draining = True
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.news.set()

    async def _over(self, job_id: str, after: str) -> bool:
        """Whether the job has ended and every event of it was seen."""
        job = await asyncio.to_thread(self.jobs.get, job_id)
        if not job.state.final:
            return False
        return not await asyncio.to_thread(self.jobs.history, job_id, after=after)

    def _read_anew(self, job_id: str) -> None:
        """Ids have begun anew: the reader would wait for them to reach the old ones."""
        with self._lock:
            if job_id in self._positions:
                self._positions[job_id] = ""

    @contextmanager
    def _watched(self, job_id: str, position: str) -> Iterator[_Watcher]:
        watcher = _Watcher()
        with self._lock:
            self._watchers[job_id].add(watcher)
            self._positions.setdefault(job_id, position)
            self._any.set()
        try:
            yield watcher
        finally:
            with self._lock:
                self._watchers[job_id].discard(watcher)
                if not self._watchers[job_id]:
                    del self._watchers[job_id]
                    self._positions.pop(job_id, None)
                if not self._positions:
                    self._any.clear()

    def start(self) -> threading.Thread:
        """Starts the reader; call it from the loop that the watchers run on."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._read, args=(loop,), name="watching", daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends the reader soon."""
        self._stopped = True
        self._any.set()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._any.wait() and not self._stopped:
            with self._lock:
                positions = dict(self._positions)
            if not positions:
                time.sleep(_WAIT_S)
                continue
            try:
                found = self.jobs.events.follow(positions, wait_s=_WAIT_S)
                gaps = [each for each in found if self._gap(positions[each], found[each], each)]
            except Exception as exc:  # whatever it is, the watchers must not wait for nothing
                if isinstance(exc, HistillError):
                    log.warning("watching_waits", why=str(exc))
                else:
                    log.exception("watching_stumbled")
                time.sleep(_AWAY_S)
                self._all_behind(loop)
                continue
            with self._lock:
                for job_id, events in found.items():
                    # Unless it was set back meanwhile.
                    if self._positions.get(job_id) == positions[job_id]:
                        self._positions[job_id] = events[-1].id
            if found:
                loop.call_soon_threadsafe(self._hand_out, found, gaps)

    def _gap(self, position: str, events: list[JobEvent], job_id: str) -> bool:
        """Whether the log may have dropped events after a position before they were read."""
        if len(events) < _MANY:
            return False
        first, _ = self.jobs.events.ends(job_id)
        return first is None or _later(first, position)

    def _all_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        """After a failure each watcher reads for itself: Redis may have come back empty."""
        with self._lock:
            for job_id in self._positions:
                self._positions[job_id] = ""
            watchers = [watcher for each in self._watchers.values() for watcher in each]

        def mark() -> None:
            for watcher in watchers:
                watcher.fall_behind()

        loop.call_soon_threadsafe(mark)

    def _hand_out(self, found: dict[str, list[JobEvent]], gaps: list[str]) -> None:
        for job_id, events in found.items():
            said = [event for event in events if _says_something(event)]
            for watcher in self._watchers.get(job_id, ()):
                if job_id in gaps:
                    watcher.fall_behind()
                elif said:
                    watcher.give(said)


async def _next(watcher: _Watcher) -> list[JobEvent]:
    """What has come; nothing after some seconds without."""
    try:
        async with asyncio.timeout(_LOOK_EVERY_S):
            await watcher.news.wait()
    except TimeoutError:
        return []
    return watcher.take()


def _later(event: JobEvent, after: str) -> bool:
    return event_order(event.id) > event_order(after)


def _says_something(event: JobEvent) -> bool:
    """Not one that only holds the place of what this version cannot read."""
    return not (event.state is None and event.progress is None and event.log is None)
