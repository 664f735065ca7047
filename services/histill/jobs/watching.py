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
log = structlog.get_logger()


@dataclass(eq=False)
class _Watcher:
    """Events that one watcher has yet to take."""

    waiting: deque[JobEvent] = field(default_factory=deque)
    behind: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def give(self, events: list[JobEvent]) -> None:
        if len(self.waiting) + len(events) > _MOST_WAITING:
            self.waiting.clear()
            self.behind = True
        else:
            self.waiting.extend(events)
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
                    # Some of them may have been read already, while catching up.
                    events = [e for e in await _next(watcher) if _later(e, after)]
                else:
                    events = await asyncio.to_thread(self.jobs.history, job_id, after=after)
                    caught_up = not events
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
            except HistillError as exc:
                log.warning("watching_waits", why=str(exc))
                time.sleep(_AWAY_S)
                self._all_behind(loop)
                continue
            except Exception:
                log.exception("watching_stumbled")
                time.sleep(_AWAY_S)
                continue
            with self._lock:
                for job_id, events in found.items():
                    if job_id in self._positions:
                        self._positions[job_id] = events[-1].id
            if found:
                loop.call_soon_threadsafe(self._hand_out, found)

    def _all_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        """After a failure each watcher reads for itself: Redis may have come back empty."""
        with self._lock:
            for job_id in self._positions:
                self._positions[job_id] = ""
            watchers = [watcher for each in self._watchers.values() for watcher in each]

        def mark() -> None:
            for watcher in watchers:
                watcher.behind = True
                watcher.news.set()

        loop.call_soon_threadsafe(mark)

    def _hand_out(self, found: dict[str, list[JobEvent]]) -> None:
        for job_id, events in found.items():
            for watcher in self._watchers.get(job_id, ()):
                watcher.give(events)


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
