"""In-memory ports for unit tests; the contract tests hold them to the real adapters' words."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import product
from typing import TYPE_CHECKING

from histill.core.errors import NotFoundError
from histill.core.events import JobEvent, event_order
from histill.core.jobs import JobKind, JobState
from histill.core.pools import DEFAULT_POOL, PoolLoad
from histill.core.ports import Mention, SeenLease, Told

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from histill.core.jobs import Job, Progress


@dataclass
class MemoryObjects:
    """Objects in a dict."""

    data: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, data: bytes) -> None:
        self.data[key] = data

    def put_file(self, key: str, path: Path) -> None:
        self.data[key] = path.read_bytes()

    def get(self, key: str) -> bytes:
        return b"".join(self.read(key))

    def read(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        if key not in self.data:
            raise NotFoundError(f"object {key} does not exist")
        found = self.data[key]
        for start in range(0, len(found), chunk_size):
            yield found[start : start + chunk_size]

    def list(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in self.data if key.startswith(prefix))

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        yield from ((key, len(self.data[key])) for key in self.list(prefix))

    def list_folders(self, prefix: str) -> Iterator[str]:
        rest = (key.removeprefix(prefix) for key in self.list(prefix))
        yield from sorted({key.split("/")[0] for key in rest if "/" in key})

    def delete(self, key: str) -> None:
        self.data.pop(key, None)

    def delete_prefix(self, prefix: str) -> None:
        for key in list(self.list(prefix)):
            del self.data[key]

    def keeps_versions(self) -> bool:
        return False

    def ping(self) -> None:
        pass


@dataclass
class MemoryVersions:
    """Version numbers in a dict."""

    last: dict[str, int] = field(default_factory=dict)

    def next(self, key: str, *, at_least: int) -> int:
        self.last[key] = max(self.last.get(key, 0) + 1, at_least)
        return self.last[key]

    def ping(self) -> None:
        pass


@dataclass
class MemoryIndex:
    """Job records in a dict."""

    records: dict[str, Job] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    built: bool = False
    building: set[str] = field(default_factory=set)
    ended: Counter[tuple[JobKind, JobState]] = field(default_factory=Counter)
    back: dict[str, datetime] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    locks: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )

    def save(self, job: Job) -> bool:
        before = self.records.get(job.id)
        if job.id in self.gone or (before and before.revision > job.revision):
            return False
        if before and before.revision == job.revision and before != job:
            return False
        if before and job.state.final and not before.state.final:
            self.ended[job.kind, job.state] += 1
        if before and job.state is JobState.QUEUED and before.state is not JobState.QUEUED:
            self.back[job.id] = datetime.now(UTC)
        self.records[job.id] = job
        return True

    def get(self, job_id: str) -> Job | None:
        return self.records.get(job_id)

    def page(
        self, *, project: str, before: str, limit: int, states: Collection[JobState]
    ) -> list[Job]:
        jobs = sorted(self.records.values(), key=lambda job: job.place, reverse=True)
        wanted = [
            job
            for job in jobs
            if job.project == project
            and (not states or job.state in states)
            and (not before or job.place < before)
        ]
        return wanted[:limit]

    def running(self) -> list[Job]:
        return [job for _, job in sorted(self.records.items()) if job.state is JobState.RUNNING]

    def queued(self) -> set[str]:
        return {job.id for job in self.records.values() if job.state is JobState.QUEUED}

    def unclosed(self) -> set[str]:
        return {job.id for job in self.records.values() if job.state.final and not job.closed}

    def counts(self) -> dict[tuple[JobKind, JobState], int]:
        found = Counter((job.kind, job.state) for job in self.records.values())
        states = (JobState.QUEUED, JobState.RUNNING)
        return {key: found[key] for key in product(JobKind, states)}

    def pools(self) -> dict[str, PoolLoad]:
        return {pool: self._load(pool) for pool in {job.pool for job in self.records.values()}}

    def _load(self, pool: str) -> PoolLoad:
        mine = [job for job in self.records.values() if job.pool == pool]
        queued = [job for job in mine if job.state is JobState.QUEUED]
        since = [self.back.get(job.id, job.create_time) for job in queued]
        running = sum(job.state is JobState.RUNNING for job in mine)
        return PoolLoad(len(queued), running, min(since, default=None))

    def running_since(self) -> dict[JobKind, dict[str, datetime]]:
        return {
            kind: {
                job.id: job.start_time
                for job in self.running()
                if job.kind is kind and job.start_time
            }
            for kind in JobKind
        }

    def take_ended(self) -> dict[tuple[JobKind, JobState], int]:
        taken, self.ended = dict(self.ended), Counter()
        return taken

    def is_built(self) -> bool:
        return self.built

    def begin_build(self) -> str:
        build = f"build {len(self.building)}"
        self.building.add(build)
        return build

    def mark_built(self, build: str) -> bool:
        self.built = self.built or build in self.building
        return build in self.building

    def mend(self) -> None:
        pass

    def delete(self, job_id: str) -> None:
        self.records.pop(job_id, None)
        self.gone.add(job_id)

    def claim_request(self, key: str, job_id: str) -> str | None:
        if not self.built:
            return None
        return self.requests.setdefault(key, job_id) if key else job_id

    def bound_request(self, key: str) -> str | None:
        return self.requests.get(key)

    def rebind_request(self, key: str, job_id: str, *, instead_of: str) -> None:
        if self.requests.get(key) == instead_of:
            self.requests[key] = job_id

    def bind_request(self, key: str, job_id: str) -> None:
        self.requests.setdefault(key, job_id)

    @contextmanager
    def lock(self, job_id: str) -> Iterator[Callable[[], None]]:
        with self.locks[job_id]:
            yield lambda: None

    def ping(self) -> None:
        pass


@dataclass
class MemoryEvents:
    """Events in lists."""

    logs: defaultdict[str, list[JobEvent]] = field(default_factory=lambda: defaultdict(list))
    made: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    archives: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def append(self, job_id: str, event: JobEvent) -> JobEvent | None:
        if event.begins:
            self.ended.discard(job_id)
        elif job_id in self.ended:
            return None
        if self.attempts[job_id] > event.attempt:
            return None
        self.attempts[job_id] = event.attempt
        if event.state is not None and event.state.final:
            self.ended.add(job_id)
        self.made[job_id] += 1
        stored = event.model_copy(update={"id": f"{self.made[job_id]}-0"})
        self.logs[job_id].append(stored)
        return stored

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        later = [e for e in self.logs[job_id] if event_order(e.id) > event_order(after)]
        return later[:limit]

    def ends(self, job_id: str) -> tuple[JobEvent | None, JobEvent | None]:
        log = self.logs[job_id]
        return (log[0], log[-1]) if log else (None, None)

    def follow(self, after: Mapping[str, str], *, wait_s: float) -> dict[str, list[JobEvent]]:
        deadline = time.monotonic() + wait_s
        while True:
            found = {job: self.read(job, after=last) for job, last in after.items()}
            found = {job: events for job, events in found.items() if events}
            if found or time.monotonic() > deadline:
                return found
            time.sleep(0.01)

    def archived_through(self, job_id: str) -> str:
        return self.archives.get(job_id, "")

    def mark_archived(self, job_id: str, *, through: str, keep_from: str) -> None:
        self.archives[job_id] = max(self.archives.get(job_id, ""), through, key=event_order)
        kept = [e for e in self.logs[job_id] if event_order(e.id) >= event_order(keep_from)]
        self.logs[job_id] = kept

    def expire(self, job_id: str, *, after_s: float) -> None:
        self.ended.add(job_id)
        if not after_s:
            self.logs.pop(job_id, None)


@dataclass
class MemoryLive:
    """Leases that never run out by themselves; ``expire`` does it."""

    held: dict[str, tuple[str, int, float]] = field(default_factory=dict)
    beats: Counter[str] = field(default_factory=Counter)
    fences: dict[str, int] = field(default_factory=dict)
    live: dict[str, tuple[Progress, dict[str, float]]] = field(default_factory=dict)
    said: dict[str, float] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    leader: str = ""

    def acquire_lease(self, job_id: str, owner: str, *, ttl_s: float, floor: int) -> int | None:
        if job_id in self.held:
            return None
        self.fences[job_id] = max(self.fences.get(job_id, 0), floor) + 1
        self.held[job_id] = (owner, self.fences[job_id], ttl_s)
        return self.fences[job_id]

    def _mine(self, job_id: str, owner: str, fence: int) -> bool:
        return self.held.get(job_id, ("", 0, 0.0))[:2] == (owner, fence)

    def renew_lease(self, job_id: str, owner: str, fence: int, *, ttl_s: float) -> bool:
        del ttl_s
        self.beats[job_id] += 1
        return self._mine(job_id, owner, fence)

    def restore_lease(self, job_id: str, owner: str, fence: int, *, ttl_s: float) -> bool:
        if job_id in self.held or self.fences.get(job_id, 0) > fence:
            return False
        self.fences[job_id] = fence
        self.held[job_id] = (owner, fence, ttl_s)
        return True

    def release_lease(self, job_id: str, owner: str, fence: int) -> None:
        if self._mine(job_id, owner, fence):
            del self.held[job_id]

    def leases(self, job_ids: Sequence[str]) -> dict[str, SeenLease]:
        return {
            job_id: SeenLease(f"{owner} {fence} {self.beats[job_id]}", ttl_s)
            for job_id in job_ids
            for owner, fence, ttl_s in [self.held.get(job_id, ("", 0, 0.0))]
            if owner
        }

    def revoke_lease(self, job_id: str, seen: str, *, floor: int) -> bool:
        now = self.leases([job_id]).get(job_id)
        if (now.token if now else "") != seen:
            return False
        self.fences[job_id] = max(self.fences.get(job_id, 0), floor) + 1
        self.held.pop(job_id, None)
        return True

    def expire(self, job_id: str) -> None:
        self.held.pop(job_id, None)

    def set_progress(self, job_id: str, progress: Progress, metrics: dict[str, float]) -> None:
        _, before = self.progress(job_id)
        self.live[job_id] = (progress, before | metrics)
        self.said[job_id] = time.monotonic()

    def progress(self, job_id: str) -> tuple[Progress | None, dict[str, float]]:
        return self.live.get(job_id, (None, {}))

    def told(self, job_ids: Sequence[str]) -> dict[str, tuple[Progress, float]]:
        now = time.monotonic()
        return {
            job_id: (self.live[job_id][0], now - self.said[job_id])
            for job_id in job_ids
            if job_id in self.live
        }

    def lead(self, owner: str, *, ttl_s: float) -> bool:
        del ttl_s
        self.leader = self.leader or owner
        return self.leader == owner

    def request_cancel(self, job_id: str) -> None:
        self.cancelled.add(job_id)

    def cancel_requested(self, job_id: str) -> bool:
        return job_id in self.cancelled

    def clear(self, job_id: str) -> None:
        self.live.pop(job_id, None)
        self.cancelled.discard(job_id)

    def forget(self, job_id: str) -> None:
        pass


@dataclass
class MemoryQueue:
    """Job ids in a list, the most urgent first, and the pool of each that is not the usual one."""

    messages: list[tuple[int, str]] = field(default_factory=list)
    pools: dict[str, str] = field(default_factory=dict)

    def submit(self, job_id: str, *, priority: int, pool: str) -> None:
        self.messages.append((-priority, job_id))
        self.messages.sort(key=lambda item: item[0])
        if pool != DEFAULT_POOL:
            self.pools[job_id] = pool

    def waiting(self, pools: Collection[str]) -> set[str]:
        return {
            job_id for _, job_id in self.messages if self.pools.get(job_id, DEFAULT_POOL) in pools
        }

    def depth(self, pools: Collection[str]) -> int:
        return sum(self.pools.get(job_id, DEFAULT_POOL) in pools for _, job_id in self.messages)


@dataclass
class MemoryTraces:
    """Keys with members; a value without members stands under an empty one."""

    values: dict[str, dict[str, str]] = field(default_factory=dict)

    def find(self, matches: Callable[[str], bool]) -> tuple[int, list[Mention]]:
        found = []
        for key, members in sorted(self.values.items()):
            if matches(key):
                found.append(Mention(key, "", key))
                continue
            found += [Mention(key, m, text) for m, text in members.items() if matches(text)]
        return len(self.values), found

    def erase(self, mentions: Iterable[Mention]) -> int:
        count = 0
        for each in mentions:
            members = self.values.get(each.key, {})
            if not each.member:
                count += self.values.pop(each.key, None) is not None
            elif members.pop(each.member, None) is not None:
                count += 1
                if not members:
                    del self.values[each.key]
        return count


@dataclass
class MemoryHoldings:
    """What workers told, in a dict; none of it runs out."""

    questions: int = 0
    words: dict[str, Told] = field(default_factory=dict)

    def ask(self) -> int:
        self.questions += 1
        return self.questions

    def asked(self) -> int:
        return self.questions

    def tell(self, worker: str, told: Told, *, ttl_s: float) -> None:
        del ttl_s
        self.words[worker] = told

    def told(self) -> dict[str, Told]:
        return dict(self.words)

    def leave(self, worker: str) -> None:
        self.words.pop(worker, None)
