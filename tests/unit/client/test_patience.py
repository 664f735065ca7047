"""Watching and waiting through restarts of the service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest

from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import job_pb2
from histill.client import jobs as module
from histill.client.jobs import Jobs
from histill.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


def away() -> grpc.RpcError:
    """What a channel raises while nobody answers."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, details="away")


@dataclass
class Clock:
    """Time that passes only in calls and sleeps."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Stub:
    """A service whose calls last so long each, and then fail; the last one succeeds."""

    clock: Clock
    quiet_s: list[float]
    gets: int = 0

    def WatchJob(self, request: pb.WatchJobRequest) -> Iterator[pb.WatchJobResponse]:  # noqa: N802
        del request
        if self.quiet_s:
            self.clock.now += self.quiet_s.pop(0)
            raise away()
        yield pb.WatchJobResponse(event=job_pb2.JobEvent(event_id="1-0"))

    def GetJob(self, request: pb.GetJobRequest, *, timeout: float) -> pb.GetJobResponse:  # noqa: N802
        del timeout
        if self.gets:
            self.clock.now += 30.0  # as long as a call may last
            self.gets -= 1
            raise away()
        return pb.GetJobResponse(job=job_pb2.Job(name=request.name))


def jobs_of(monkeypatch: pytest.MonkeyPatch, quiet_s: list[float], *, gets: int = 0) -> Jobs:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    with grpc.insecure_channel("localhost:1") as channel:
        jobs = Jobs(channel, timeout_s=1)
    cast("Any", jobs)._stub = Stub(clock, quiet_s, gets)
    return jobs


def test_a_quiet_job_is_watched_through_any_number_of_restarts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A call that lasted had found the service, even when no event came over it."""
    jobs = jobs_of(monkeypatch, [61.0, 0.0, 61.0, 0.0, 300.0])
    assert [event.event_id for event in jobs.watch("jobs/j")] == ["1-0"]


@pytest.mark.parametrize("call_s", [0.0, 20.0])
def test_patience_ends_when_the_service_stays_away(
    monkeypatch: pytest.MonkeyPatch, call_s: float
) -> None:
    """Calls that only try to connect do not begin it anew."""
    jobs = jobs_of(monkeypatch, [call_s] * 1000)
    with pytest.raises(UnavailableError):
        list(jobs.watch("jobs/j"))


def test_waiting_has_the_same_patience_for_the_last_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service may restart between a job's last event and the question for its record."""
    assert jobs_of(monkeypatch, [], gets=2).wait("jobs/j").name == "jobs/j"
    with pytest.raises(UnavailableError):
        jobs_of(monkeypatch, [], gets=1000).wait("jobs/j")
