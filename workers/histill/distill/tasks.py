"""The Celery task: a job id, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.distill.supervisor import run_job

if TYPE_CHECKING:
    from celery import Celery

    from histill.distill.supervisor import Worker

TASK_NAME = "histill.distill.run_job"


def register(app: Celery, worker: Worker) -> None:
    """Registers the task on ``app``, bound to this worker's dependencies."""

    @app.task(name=TASK_NAME)
    def run(job_id: str) -> None:
        run_job(job_id, worker)
