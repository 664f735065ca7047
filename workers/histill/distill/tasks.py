"""The Celery task: a job id, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.adapters.celery_app import TASK
from histill.distill.supervisor import run_job

if TYPE_CHECKING:
    from celery import Celery

    from histill.distill.supervisor import Worker


def register(app: Celery, worker: Worker) -> None:
    """Registers the task on ``app``, bound to this worker's dependencies."""

    @app.task(name=TASK)
    def run(job_id: str) -> None:
        run_job(job_id, worker)
