"""GetSamples: who gets them, and what is said where there are none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects, MemoryQueue
from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.core.errors import InvalidArgumentError, NotFoundError
from histill.core.job_keys import report_key, samples_key
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec
from histill.jobs.known import Known
from histill.jobs.servicer import JobsServicer
from histill.jobs.watching import Watching
from histill.rpc.roles import ROLES

NOW = datetime(2026, 5, 4, tzinfo=UTC)
CONTEXT = cast("Any", None)


def world() -> tuple[JobsServicer, MemoryObjects, Job]:
    """A servicer over fakes, and a job that has succeeded."""
    objects, index = MemoryObjects(), MemoryIndex(built=True)
    jobs = JobStore(objects, index, MemoryEvents(), lambda: NOW)
    servicer = JobsServicer(
        objects, jobs, MemoryLive(), MemoryQueue(), Watching(jobs), Known(objects), lambda: NOW
    )
    spec = SupervisedSpec(dataset="d", output_model="m")
    job = Job(id=new_job_id(), spec=spec, create_time=NOW, state=JobState.SUCCEEDED)
    return servicer, objects, jobs.create(job)


async def test_samples_come_as_they_are_stored() -> None:
    """The archive arrives byte for byte; the report is another thing."""
    servicer, objects, job = world()
    objects.put(samples_key(job.id), b"archive")
    objects.put(report_key(job.id), b"page")
    answer = await servicer.GetSamples(pb.GetSamplesRequest(name=job.name), CONTEXT)
    assert answer.npz == b"archive"
    report = await servicer.GetReport(pb.GetReportRequest(name=job.name), CONTEXT)
    assert report.html == b"page"


async def test_a_job_without_samples_says_so() -> None:
    """The error names the job and its state, for a report as for samples."""
    servicer, _, job = world()
    with pytest.raises(NotFoundError, match=f"^{job.name} is SUCCEEDED and has no samples$"):
        await servicer.GetSamples(pb.GetSamplesRequest(name=job.name), CONTEXT)
    with pytest.raises(NotFoundError, match=f"^{job.name} is SUCCEEDED and has no report$"):
        await servicer.GetReport(pb.GetReportRequest(name=job.name), CONTEXT)


async def test_an_unknown_or_wrong_name_is_told_apart() -> None:
    """A job that is not there is not found; what is no name is wrong."""
    servicer, _, _ = world()
    with pytest.raises(NotFoundError, match="does not exist"):
        await servicer.GetSamples(pb.GetSamplesRequest(name=f"jobs/{new_job_id()}"), CONTEXT)
    with pytest.raises(InvalidArgumentError, match="name"):
        await servicer.GetSamples(pb.GetSamplesRequest(name="../m"), CONTEXT)


def test_samples_need_a_higher_role_than_a_report() -> None:
    """A viewer reads reports; samples are for operators."""
    service = "/histill.api.distillation.v1.DistillationService/"
    assert ROLES[f"{service}GetReport"] == "viewer"
    assert ROLES[f"{service}GetSamples"] == "operator"
