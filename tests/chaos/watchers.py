"""Watchers of jobs that believe nothing: what they saw is checked afterwards."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.api.distillation.v1 import job_pb2
from histill.core.errors import HistillError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.client import Client

FINAL = {
    job_pb2.JOB_STATE_SUCCEEDED,
    job_pb2.JOB_STATE_FAILED,
    job_pb2.JOB_STATE_CANCELLED,
}


@dataclass
class Watcher:
    """Follows one job to its end in a thread, as the SDK does it for any program.

    Attributes:
        seen: Each event, and when it came (monotonic seconds).
        error: What ended the watch, other than the job's end.
    """

    client: Client
    name: str
    seen: list[tuple[float, job_pb2.JobEvent]] = field(default_factory=list)
    error: HistillError | None = None

    def start(self) -> threading.Thread:
        """Starts to watch."""
        thread = threading.Thread(target=self._watch, name=f"watch {self.name}", daemon=True)
        thread.start()
        return thread

    def _watch(self) -> None:
        try:
            for event in self.client.jobs.watch(self.name, patience_s=300):
                self.seen.append((time.monotonic(), event))
        except HistillError as exc:
            self.error = exc

    def state(self) -> job_pb2.JobState.ValueType:
        """The last one that was seen."""
        states = [event.state for _, event in list(self.seen) if event.state]
        return states[-1] if states else job_pb2.JOB_STATE_UNSPECIFIED

    def started_after(self, moment: float) -> float | None:
        """Seconds from a moment to the next start of an attempt, if there was one."""
        return next(
            (
                at - moment
                for at, event in list(self.seen)
                if at > moment and event.state == job_pb2.JOB_STATE_RUNNING
            ),
            None,
        )

    def complaints(self) -> Iterator[str]:
        """What a watcher must never see."""
        if self.error is not None:
            yield f"{self.name}: the watch ended with {self.error!r}"
        ids = [event.event_id for _, event in self.seen]
        if len(set(ids)) != len(ids):
            yield f"{self.name}: an event came twice"
        attempt, step = 0, 0
        for _, event in self.seen:
            if event.attempt < attempt:
                yield f"{self.name}: attempt {event.attempt} after attempt {attempt}"
            if event.attempt > attempt:
                attempt, step = event.attempt, 0
            if event.WhichOneof("event") == "progress" and event.progress.stage == "training":
                if event.progress.step < step:
                    yield f"{self.name}: step {event.progress.step} after {step}"
                step = max(step, event.progress.step)
        ends = [event for _, event in self.seen if event.state in FINAL]
        if len(ends) != 1 or self.seen[-1][1].state not in FINAL:
            yield f"{self.name}: {len(ends)} final states were seen"
