"""Jobs, for the page."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from google.rpc import error_details_pb2
from starlette.responses import JSONResponse, Response, StreamingResponse

from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import job_pb2
from histill.core import yaml_text
from histill.core.errors import InvalidArgumentError
from histill.core.json_form import as_dict
from histill.core.messages import job_from_yaml
from histill.web.bodies import text_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from histill.web.backends import Service
    from histill.web.credentials import Credentials
    from histill.web.events import Watchers

PAGE_SIZE = 50
# A job has a few thousand. Text that is all brackets takes a millisecond for every twenty.
MOST_BYTES = 64 << 10
# Reports are made by trainers, which run foreign programs: nothing in one runs or asks anybody.
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_READ_S = 20.0
_EVENTS = "text/event-stream"
_PLACE = re.compile(r'\s*in "<unicode string>", line')


class Jobs:
    """The routes of ``/api/jobs``.

    Args:
        jobs: The jobs service.
        credentials: Whose calls they are.
        watchers: Counts those who follow jobs.
    """

    def __init__(self, jobs: Service, credentials: Credentials, watchers: Watchers) -> None:
        self._jobs = jobs
        self._credentials = credentials
        self._watchers = watchers
        self._reading = asyncio.Lock()

    async def list(self, request: Request) -> Response:
        """A page of jobs, newest first; ``state=running`` and the like choose."""
        found = await self._read(
            "ListJobs",
            pb.ListJobsRequest(
                page_size=PAGE_SIZE,
                page_token=request.query_params.get("page_token", ""),
                states=[_state(each) for each in request.query_params.getlist("state")],
            ),
            request,
        )
        return JSONResponse(
            {
                "jobs": [job_json(each) for each in found.jobs],
                "next_page_token": found.next_page_token,
            }
        )

    async def create(self, request: Request) -> Response:
        """Submits a job, as YAML; the same ``request_id`` makes the same job."""
        text = await text_of(request, most=MOST_BYTES)
        async with self._reading:  # others are answered meanwhile, whoever sends the worst of texts
            job = await asyncio.to_thread(_job_of, text)
        message = pb.CreateJobRequest(
            job=job, request_id=request.query_params.get("request_id", "")
        )
        found = await self._jobs.ask("CreateJob", message, self._credentials.of(request))
        return JSONResponse({"job": job_json(found.job)}, 201)

    async def show(self, request: Request) -> Response:
        """One job."""
        found = await self._read("GetJob", pb.GetJobRequest(name=_name(request)), request)
        return JSONResponse({"job": job_json(found.job)})

    async def cancel(self, request: Request) -> Response:
        """Asks a job to stop."""
        message = pb.CancelJobRequest(name=_name(request))
        found = await self._jobs.ask("CancelJob", message, self._credentials.of(request))
        return JSONResponse({"job": job_json(found.job)})

    async def report(self, request: Request) -> Response:
        """The report of a job that has ended well."""
        found = await self._read("GetReport", pb.GetReportRequest(name=_name(request)), request)
        return Response(
            found.html,
            media_type="text/html; charset=utf-8",
            headers={"Content-Security-Policy": REPORT_POLICY},
        )

    async def events(self, request: Request) -> Response:
        """Events of a job as they happen, from the one after ``Last-Event-ID``, or ``after``.

        A browser sends the header when it connects again by itself, and never else.
        """
        if request.method == "HEAD":
            return Response(media_type=_EVENTS)
        credential = self._credentials.of(request)
        message = pb.WatchJobRequest(
            name=_name(request),
            after_event_id=request.headers.get("last-event-id", "")
            or request.query_params.get("after", ""),
        )
        self._watchers.check()
        told = self._watchers.counted(
            # However long the job takes.
            lambda: self._jobs.open("WatchJob", credential, message),
            lambda exc: self._jobs.failed(exc, credential),
        )
        return StreamingResponse(told, media_type=_EVENTS)

    async def _read(self, method: str, message: Any, request: Request) -> Any:
        credential = self._credentials.of(request)
        return await self._jobs.ask(method, message, credential, timeout_s=_READ_S)


def job_json(job: job_pb2.Job) -> dict[str, Any]:
    """A job as the page reads it: with its error's hint in plain sight."""
    found = as_dict(job)
    if job.HasField("error"):
        info = error_details_pb2.ErrorInfo()
        any(packed.Unpack(info) for packed in job.error.details)
        found["error"] = {
            "code": job.error.code,
            "message": job.error.message,
            "reason": info.reason,
            "hint": info.metadata.get("hint", ""),
            "log_tail": info.metadata.get("log_tail", ""),
        }
    return found


def _job_of(text: str) -> job_pb2.Job:
    try:
        values = yaml_text.load(text)
    except ValueError as exc:
        # The library names the text as if it were a file.
        words = _PLACE.sub(" in line", str(exc))
        raise InvalidArgumentError.of("job", f"is not YAML: {words}") from None
    if not isinstance(values, dict):
        raise InvalidArgumentError.of("job", "must be a mapping, as in examples/*.yaml")
    return job_from_yaml(values)


def _name(request: Request) -> str:
    return f"jobs/{request.path_params['id']}"


def _state(text: str) -> job_pb2.JobState.ValueType:
    known = {
        name.removeprefix("JOB_STATE_").lower(): value
        for name, value in job_pb2.JobState.items()
        if value != job_pb2.JOB_STATE_UNSPECIFIED
    }
    if text not in known:
        raise InvalidArgumentError.of("state", f"must be one of {', '.join(known)}")
    return known[text]
