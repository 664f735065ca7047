"""Where in the object store what belongs to a job lies."""

from __future__ import annotations

from histill.core.manifests import GENERATORS, SAMPLES


def record_key(job_id: str) -> str:
    """Key of a job's record."""
    return f"{job_prefix(job_id)}job.json"


def job_prefix(job_id: str) -> str:
    """Key prefix of all that is stored of a job."""
    return f"jobs/{job_id}/"


def report_key(job_id: str) -> str:
    """Key of a job's HTML report."""
    return f"{job_prefix(job_id)}report.html"


def samples_key(job_id: str) -> str:
    """Key of the samples that a data-free job's generators made."""
    return f"{job_prefix(job_id)}{SAMPLES}"


def generators_key(job_id: str) -> str:
    """Key of the weights of a data-free job's generators."""
    return f"{job_prefix(job_id)}{GENERATORS}"


def checkpoint_prefix(job_id: str) -> str:
    """Key prefix of the checkpoints of a job that has not ended."""
    return f"{job_prefix(job_id)}checkpoints/"
