"""The RPCs of the jobs service: requests in, domain calls, messages out."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import partial
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
)
from histill.core.job_keys import report_key, samples_key
from histill.core.jobs import Job, JobState, Origin
from histill.core.names import parse_job_name
from histill.core.pools import DEFAULT_POOL
from histill.jobs.admission import accepted
from histill.rpc.interceptor import current_caller, current_request_id
from histill.rpc.tracing import traceparent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from histill.core.clock import Clock
    from histill.core.job_store import JobStore
    from histill.core.ports import JobQueue, LiveState, ObjectStore
    from histill.jobs.known import Known
    from histill.jobs.watching import Watching

    Context = grpc.aio.ServicerContext[Any, Any]

_DEFAULT_PAGE = 50
_MAX_PAGE = 1000
_PLACE = re.compile(r"\d{13}-[a-z0-9]{8,40}")
log = structlog.get_logger()


@dataclass
class JobsServicer(rpc.DistillationServiceServicer):
    """Serves ``DistillationService``; everything that blocks runs in threads."""

    objects: ObjectStore
    jobs: JobStore
    live: LiveState
    queue: JobQueue
    watching: Watching
    known: Known
    clock: Clock
    pools: tuple[str, ...] = (DEFAULT_POOL,)

    async def CreateJob(  # noqa: N802 - the API's name
        self, request: pb.CreateJobRequest, context: Context
    ) -> pb.CreateJobResponse:
        """Checks, stores and queues a job."""
        del context
        return pb.CreateJobResponse(job=await asyncio.to_thread(self._create, request))

    def _create(self, request: pb.CreateJobRequest) -> Any:
        project = current_caller().project
        asked = accepted(
            request.job,
            request.request_id,
            project=project,
            pools=self._pools(project, request),
            find=partial(self.known.find, project),
            clock=self.clock,
        )
        origin = Origin(request_id=current_request_id(), traceparent=traceparent())
        job = self.jobs.create(
            asked.model_copy(update={"origin": origin}), any_pool=not request.job.pool
        )
        if job.state is JobState.QUEUED and not job.attempt:
            # A repeated request too: the first may have ended before this, and a second
            # message finds the job leased or ended.
            try:
                self.queue.submit(job.id, priority=job.priority, pool=job.pool)
            except QueueUnavailableError as exc:
                # It is stored, and so accepted: the reaper submits it once Redis is back.
                log.warning("submit_postponed", job=job.name, why=str(exc))
        return messages.job_message(job)

    def _pools(self, project: str, request: pb.CreateJobRequest) -> tuple[str, ...]:
        """Those that a request may name: a repeated one also its first call's, now gone."""
        named, key = request.job.pool, request.request_id
        if not named or not key or named in self.pools:
            return self.pools
        earlier = self.jobs.of_request(project, key)
        return (*self.pools, named) if earlier and earlier.pool == named else self.pools

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
        return self._with_progress(self._own(job_id))

    def _own(self, job_id: str) -> Job:
        """The job, if it is the caller's project's; else there is none."""
        job = self.jobs.get(job_id)
        if job.project != current_caller().project:
            raise NotFoundError(f"{job.name} does not exist")
        return job

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
        if request.page_token and not _PLACE.fullmatch(request.page_token):
            raise InvalidArgumentError.of("page_token", "is no token that ListJobs gave")
        return await asyncio.to_thread(self._list, request)

    def _list(self, request: pb.ListJobsRequest) -> pb.ListJobsResponse:
        size = request.page_size or _DEFAULT_PAGE
        page = self.jobs.page(
            project=current_caller().project,
            before=request.page_token,
            limit=size + 1,
            states=messages.states_of(request.states, field="states"),
        )
        token = page[size - 1].place if len(page) > size else ""
        jobs = [messages.job_message(self._with_progress(job)) for job in page[:size]]
        return pb.ListJobsResponse(jobs=jobs, next_page_token=token)

    async def CancelJob(  # noqa: N802 - the API's name
        self, request: pb.CancelJobRequest, context: Context
    ) -> pb.CancelJobResponse:
        """Ends a queued job at once and asks a running one to stop."""
        del context
        job_id = parse_job_name(request.name, field="name")
        return pb.CancelJobResponse(job=await asyncio.to_thread(self._cancel, job_id))

    def _cancel(self, job_id: str) -> Any:
        self._own(job_id)
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
        await asyncio.to_thread(self._delete, parse_job_name(request.name, field="name"))
        return pb.DeleteJobResponse()

    def _delete(self, job_id: str) -> None:
        self._own(job_id)
        self.jobs.delete(job_id)

    async def WatchJob(  # noqa: N802 - the API's name
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncIterator[pb.WatchJobResponse]:
        """Events of a job until it has ended."""
        del context
        job_id = parse_job_name(request.name, field="name")
        await asyncio.to_thread(self._own, job_id)
        async for event in self.watching.follow(job_id, after=request.after_event_id):
            yield pb.WatchJobResponse(event=messages.event_message(event))

    async def GetReport(  # noqa: N802 - the API's name
        self, request: pb.GetReportRequest, context: Context
    ) -> pb.GetReportResponse:
        """The report of a job that has succeeded."""
        del context
        job_id = parse_job_name(request.name, field="name")
        return pb.GetReportResponse(html=await asyncio.to_thread(self._report, job_id))

    def _report(self, job_id: str) -> bytes:
        job = self._own(job_id)
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
        job = self._own(job_id)
        try:
            return self.objects.get(samples_key(job_id))
        except NotFoundError:
            raise NotFoundError(f"{job.name} is {job.state} and has no samples") from None

    async def ready(self) -> None:
        """Returns when S3 and Redis answer."""
        await asyncio.to_thread(self.objects.ping)
        await asyncio.to_thread(self.jobs.index.ping)
