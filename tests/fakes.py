"""In-memory ports for unit tests; the contract tests hold them to the real adapters' words."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.core.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from histill.core.events import JobEvent
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

    def list_folders(self, prefix: str) -> Iterator[str]:
        rest = (key.removeprefix(prefix) for key in self.list(prefix))
        yield from sorted({key.split("/")[0] for key in rest if "/" in key})

    def delete(self, key: str) -> None:
        self.data.pop(key, None)

    def delete_prefix(self, prefix: str) -> None:
        for key in list(self.list(prefix)):
            del self.data[key]

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
    locks: defaultdict[str, threading.Lock] = field(
        default_factory=lambda: defaultdict(threading.Lock)
    )

    def save(self, job: Job) -> None:
        self.records[job.id] = job

    def get(self, job_id: str) -> Job | None:
        return self.records.get(job_id)

    def page(self, *, before: str, limit: int) -> list[Job]:
        jobs = sorted(self.records.values(), key=lambda j: (j.create_time, j.id), reverse=True)
        if before:
            ids = [job.id for job in jobs]
            jobs = jobs[ids.index(before) + 1 :] if before in ids else []
        return jobs[:limit]

    def open_jobs(self) -> list[Job]:
        return [job for _, job in sorted(self.records.items()) if not job.state.final]

    def is_built(self) -> bool:
        return self.built

    def mark_built(self) -> None:
        self.built = True

    def delete(self, job_id: str) -> None:
        self.records.pop(job_id, None)

    def claim_request(self, request_id: str, job_id: str) -> str:
        return self.requests.setdefault(request_id, job_id)

    @contextmanager
    def lock(self, job_id: str) -> Iterator[None]:
        with self.locks[job_id]:
            yield

    def ping(self) -> None:
        pass


@dataclass
class MemoryEvents:
    """Events in lists."""

    logs: defaultdict[str, list[JobEvent]] = field(default_factory=lambda: defaultdict(list))

    def append(self, job_id: str, event: JobEvent) -> JobEvent:
        stored = event.model_copy(update={"id": f"{len(self.logs[job_id]) + 1}-0"})
        self.logs[job_id].append(stored)
        return stored

    def read(self, job_id: str, *, after: str = "", limit: int = 1000) -> list[JobEvent]:
        number = int(after.split("-", maxsplit=1)[0]) if after else 0
        later = [e for e in self.logs[job_id] if int(e.id.split("-")[0]) > number]
        return later[:limit]

    def restore(self, job_id: str, events: Iterable[JobEvent]) -> None:
        if not self.logs[job_id]:
            self.logs[job_id].extend(events)


@dataclass
class MemoryLive:
    """Leases that never run out by themselves; ``expire`` does it."""

    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    live: dict[str, tuple[Progress, dict[str, float]]] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    leader: str = ""

    def acquire_lease(self, job_id: str, owner: str, *, ttl_s: float, floor: int) -> int | None:
        del ttl_s
        if job_id in self.leases:
            return None
        self.fences[job_id] = max(self.fences.get(job_id, 0), floor) + 1
        self.leases[job_id] = (owner, self.fences[job_id])
        return self.fences[job_id]

    def renew_lease(self, job_id: str, owner: str, fence: int, *, ttl_s: float) -> bool:
        del ttl_s
        return self.leases.get(job_id) == (owner, fence)

    def release_lease(self, job_id: str, owner: str, fence: int) -> None:
        if self.leases.get(job_id) == (owner, fence):
            del self.leases[job_id]

    def leased(self, job_id: str) -> bool:
        return job_id in self.leases

    def expire(self, job_id: str) -> None:
        self.leases.pop(job_id, None)

    def set_progress(self, job_id: str, progress: Progress, metrics: dict[str, float]) -> None:
        _, before = self.progress(job_id)
        self.live[job_id] = (progress, before | metrics)

    def progress(self, job_id: str) -> tuple[Progress | None, dict[str, float]]:
        return self.live.get(job_id, (None, {}))

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


@dataclass
class MemoryQueue:
    """Job ids in a list, the most urgent first."""

    waiting: list[tuple[int, str]] = field(default_factory=list)

    def submit(self, job_id: str, *, priority: int) -> None:
        self.waiting.append((-priority, job_id))
        self.waiting.sort(key=lambda item: item[0])

    def depth(self) -> int:
        return len(self.waiting)
