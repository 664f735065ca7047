"""Distillation jobs, for programs."""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histill.api.distillation.v1 import (
    distillation_service_pb2 as pb,
)
from histill.api.distillation.v1 import (
    distillation_service_pb2_grpc as rpc,
)
from histill.api.distillation.v1 import job_pb2
from histill.client.calls import translated
from histill.core.errors import UnavailableError
from histill.core.messages import job_from_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import grpc

_RECONNECT_S = 1.0
_PATIENCE_S = 60.0
# Longer than gRPC tries to connect: a call that lasted longer had found the service.
_FOUND_S = 25.0


@dataclass
class _Patience:
    """Bears an absence of so many seconds, and any number of them."""

    seconds: float
    since: float | None = None

    def answered(self) -> None:
        """The service is there: the next absence begins anew."""
        self.since = None

    def wait_or_raise(self, error: UnavailableError, *, begun: float = math.inf) -> None:
        """After a call that failed: waits a moment, unless the service stays away.

        Args:
            error: What the call raised.
            begun: When it began, if it has no time limit of its own to last as long as.
        """
        now = time.monotonic()
        if self.since is None or now - begun > _FOUND_S:
            self.since = now
        if now - self.since > self.seconds:
            raise error
        time.sleep(_RECONNECT_S)


class Jobs:
    """Submit, follow and cancel jobs.

    Args:
        channel: Channel to the jobs service.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.Channel, *, timeout_s: float) -> None:
        self._stub = rpc.DistillationServiceStub(channel)
        self._timeout_s = timeout_s

    def submit(
        self, spec: Mapping[str, Any] | job_pb2.Job, *, request_id: str = "", pool: str = ""
    ) -> job_pb2.Job:
        """Submits a job.

        Args:
            spec: A job, or the same as nested mappings, as in ``examples/*.yaml``.
            request_id: Idempotency key; by default a fresh one, so that a retry by
                the channel never makes a second job.
            pool: Whose workers run it, whatever the spec says; empty: as the spec says,
                or the service's first.

        Raises:
            InvalidArgumentError: A field is wrong; the error names its path.
            NotFoundError: The dataset or a teacher does not exist.
        """
        job = spec if isinstance(spec, job_pb2.Job) else job_from_yaml(spec)
        request = pb.CreateJobRequest(job=job, request_id=request_id or uuid.uuid4().hex)
        if pool:
            request.job.pool = pool
        with translated():
            return self._stub.CreateJob(request, timeout=self._timeout_s).job

    def get(self, name: str) -> job_pb2.Job:
        """One job by name, ``jobs/{id}``.

        Raises:
            NotFoundError: There is none of that name.
        """
        with translated():
            return self._stub.GetJob(pb.GetJobRequest(name=name), timeout=self._timeout_s).job

    def list(self, *, states: tuple[job_pb2.JobState.ValueType, ...] = ()) -> Iterator[job_pb2.Job]:
        """Jobs, newest first, fetched page by page."""
        request = pb.ListJobsRequest(states=states)
        while True:
            with translated():
                page = self._stub.ListJobs(request, timeout=self._timeout_s)
            yield from page.jobs
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def cancel(self, name: str) -> job_pb2.Job:
        """Cancels a job: at once when queued, within five seconds when running.

        Raises:
            FailedPreconditionError: It has ended otherwise.
        """
        with translated():
            return self._stub.CancelJob(pb.CancelJobRequest(name=name), timeout=self._timeout_s).job

    def delete(self, name: str) -> None:
        """Removes an ended job; its result model stays.

        Raises:
            FailedPreconditionError: It has not ended.
        """
        with translated():
            self._stub.DeleteJob(pb.DeleteJobRequest(name=name), timeout=self._timeout_s)

    def watch(
        self, name: str, *, after_event_id: str = "", patience_s: float = _PATIENCE_S
    ) -> Iterator[job_pb2.JobEvent]:
        """Events until the job has ended; reconnects by itself and repeats none.

        Args:
            name: ``jobs/{id}``.
            after_event_id: The last event already seen.
            patience_s: How long to try again while the service is away.

        Raises:
            UnavailableError: The service stayed away for ``patience_s``.
        """
        request = pb.WatchJobRequest(name=name, after_event_id=after_event_id)
        patience = _Patience(patience_s)
        while True:
            begun = time.monotonic()
            try:
                with translated():
                    for answer in self._stub.WatchJob(request):
                        patience.answered()
                        request.after_event_id = answer.event.event_id
                        yield answer.event
                        begun = time.monotonic()  # the caller's time is not the service's
            except UnavailableError as exc:
                patience.wait_or_raise(exc, begun=begun)
            else:
                return

    def report(self, name: str) -> bytes:
        """The report of a job that has succeeded: one self-contained HTML page.

        Raises:
            NotFoundError: There is no such job, or it has no report.
        """
        with translated():
            request = pb.GetReportRequest(name=name)
            return self._stub.GetReport(request, timeout=self._timeout_s).html

    def samples(self, name: str) -> bytes:
        """Samples that the generators of a succeeded data-free job made.

        Returns:
            A NumPy archive (.npz) of ``hard`` and ``simple``, each uint8 [N, H, W, C];
            load it with ``allow_pickle=False``.

        Raises:
            NotFoundError: There is no such job, or it has no samples.
        """
        with translated():
            request = pb.GetSamplesRequest(name=name)
            return self._stub.GetSamples(request, timeout=self._timeout_s).npz

    def wait(self, name: str) -> job_pb2.Job:
        """Returns the job once it has ended.

        Raises:
            UnavailableError: The service stayed away for a minute.
        """
        for _ in self.watch(name):
            pass
        patience = _Patience(_PATIENCE_S)
        while True:
            try:
                return self.get(name)
            except UnavailableError as exc:
                patience.wait_or_raise(exc)
