"""The RPCs of the jobs service: requests in, domain calls, messages out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as rpc
from histill.core import messages
from histill.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    QueueUnavailableError,
    UnavailableError,
)
from histill.core.job_store import report_key, samples_key
from histill.core.jobs import Job, JobState
from histill.core.names import parse_job_name
from histill.jobs.admission import accepted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    import grpc

    from histill.core.clock import Clock
    from histill.core.job_store import JobStore
    from histill.core.ports import JobQueue, LiveState, ObjectStore

    Context = grpc.aio.ServicerContext[Any, Any]

_DEFAULT_PAGE = 50
_MAX_PAGE = 1000
_WATCH_EVERY_S = 0.2
_IDLE_LOOKS = 10
log = structlog.get_logger()


@dataclass
class JobsServicer(rpc.DistillationServiceServicer):
    """Serves ``DistillationService``; everything that blocks runs in threads."""

    objects: ObjectStore
    jobs: JobStore
    live: LiveState
    queue: JobQueue
    clock: Clock
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    async def CreateJob(  # noqa: N802 - the API's name
        self, request: pb.CreateJobRequest, context: Context
    ) -> pb.CreateJobResponse:
        """Checks, stores and queues a job."""
        del context
        return pb.CreateJobResponse(job=await asyncio.to_thread(self._create, request))

    def _create(self, request: pb.CreateJobRequest) -> Any:
        asked = accepted(request.job, request.request_id, objects=self.objects, clock=self.clock)
        job = self.jobs.create(asked)
        if job.state is JobState.QUEUED and not job.attempt:
            # A repeated request too: the first may have ended before this, and a second
            # message finds the job leased or ended.
            try:
                self.queue.submit(job.id, priority=job.priority)
            except QueueUnavailableError as exc:
                # It is stored, and so accepted: the reaper submits it once Redis is back.
                log.warning("submit_postponed", job=job.name, why=str(exc))
        return messages.job_message(job)

    async def GetJob(  # noqa: N802 - the API's name
        self, request: pb.GetJobRequest, context: Context
    ) -> pb.GetJobResponse:
        """One job, with its live progress."""
        del context
        job_id = parse_job_name(request.name, field="name")
        return pb.GetJobResponse(
            job=await asyncio.to_thread(lambda: messages.job_message(self._get(job_id)))
        )

    def _get(self, job_id: str) -> Job:
        return self._with_progress(self.jobs.get(job_id))

    def _with_progress(self, job: Job) -> Job:
        if job.state is not JobState.RUNNING:
            return job
        progress, metrics = self.live.progress(job.id)
        return job.model_copy(update={"progress": progress, "metrics": job.metrics | metrics})

    async def ListJobs(  # noqa: N802 - the API's name
        self, request: pb.ListJobsRequest, context: Context
    ) -> pb.ListJobsResponse:
        """A page of jobs, newest first."""
        del context
        if not 0 <= request.page_size <= _MAX_PAGE:
            raise InvalidArgumentError.of("page_size", f"must be from 0 to {_MAX_PAGE}")
        before = (
            parse_job_name(f"jobs/{request.page_token}", field="page_token")
            if (request.page_token)
            else ""
        )
        size = request.page_size or _DEFAULT_PAGE
        jobs, token = await asyncio.to_thread(self._list, before, size, set(request.states))
        return pb.ListJobsResponse(jobs=jobs, next_page_token=token)

    def _list(self, before: str, size: int, states: Collection[int]) -> tuple[list[Any], str]:
        found: list[Any] = []
        while True:
            page = self.jobs.page(before=before, limit=size)
            for job in page:
                if not states or messages.state_message(job.state) in states:
                    found.append(messages.job_message(self._with_progress(job)))
                    if len(found) == size:
                        return found, job.id
            if len(page) < size:
                return found, ""
            before = page[-1].id

    async def CancelJob(  # noqa: N802 - the API's name
        self, request: pb.CancelJobRequest, context: Context
    ) -> pb.CancelJobResponse:
        """Ends a queued job at once and asks a running one to stop."""
        del context
        job_id = parse_job_name(request.name, field="name")
        return pb.CancelJobResponse(job=await asyncio.to_thread(self._cancel, job_id))

    def _cancel(self, job_id: str) -> Any:
        job = self.jobs.update(job_id, self._cancelled)
        if job.state is JobState.RUNNING:
            self.live.request_cancel(job_id)
        elif job.state is JobState.CANCELLED:
            self.jobs.close(job_id)
        return messages.job_message(self._with_progress(job))

    def _cancelled(self, job: Job) -> Job:
        match job.state:
            case JobState.QUEUED:
                return job.moved_to(JobState.CANCELLED, at=self.clock())
            case JobState.RUNNING:
                return job.model_copy(update={"cancel_requested": True})
            case JobState.CANCELLED:
                return job
            case _:
                raise FailedPreconditionError(f"{job.name} is {job.state} already")

    async def DeleteJob(  # noqa: N802 - the API's name
        self, request: pb.DeleteJobRequest, context: Context
    ) -> pb.DeleteJobResponse:
        """Removes an ended job."""
        del context
        await asyncio.to_thread(self.jobs.delete, parse_job_name(request.name, field="name"))
        return pb.DeleteJobResponse()

    async def WatchJob(  # noqa: N802 - the API's name
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """Events of a job until it has ended."""
        del context
        job_id = parse_job_name(request.name, field="name")
        after, idle, ended = request.after_event_id, 0, False
        await asyncio.to_thread(self.jobs.get, job_id)
        while not self.draining.is_set():
            events = await asyncio.to_thread(self.jobs.events.read, job_id, after=after)
            for event in events:
                after = event.id
                yield pb.WatchJobResponse(event=messages.event_message(event))
                if event.state is not None and event.state.final:
                    return
            if ended and not events:
                return
            idle = 0 if events else idle + 1
            if idle % _IDLE_LOOKS == 1:
                # Also ends for a watcher that has seen the last event already.
                ended = (await asyncio.to_thread(self.jobs.get, job_id)).state.final
            if not events and not ended:
                await asyncio.sleep(_WATCH_EVERY_S)
        raise UnavailableError("the service is stopping; watch again from the last event")

    async def GetReport(  # noqa: N802 - the API's name
        self, request: pb.GetReportRequest, context: Context
    ) -> pb.GetReportResponse:
        """The report of a job that has succeeded."""
        del context
        job_id = parse_job_name(request.name, field="name")
        return pb.GetReportResponse(html=await asyncio.to_thread(self._report, job_id))

    def _report(self, job_id: str) -> bytes:
        job = self.jobs.get(job_id)
        try:
            return self.objects.get(report_key(job_id))
        except NotFoundError:
            raise NotFoundError(f"{job.name} is {job.state} and has no report") from None

    async def GetSamples(  # noqa: N802 - the API's name
        self, request: pb.GetSamplesRequest, context: Context
    ) -> pb.GetSamplesResponse:
        """What the generators of a data-free job made."""
        del context
        job_id = parse_job_name(request.name, field="name")
        return pb.GetSamplesResponse(npz=await asyncio.to_thread(self._samples, job_id))

    def _samples(self, job_id: str) -> bytes:
        job = self.jobs.get(job_id)
        try:
            return self.objects.get(samples_key(job_id))
        except NotFoundError:
            raise NotFoundError(f"{job.name} is {job.state} and has no samples") from None

    async def ready(self) -> None:
        """Returns when S3 and Redis answer."""
        await asyncio.to_thread(self.objects.ping)
        await asyncio.to_thread(self.jobs.index.ping)
