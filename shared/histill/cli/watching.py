"""A live progress bar of one job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.rpc import error_details_pb2
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from histill.api.distillation.v1 import job_pb2
from histill.cli.output import complain, console

if TYPE_CHECKING:
    from histill.client import Client

_SHOWN = ("loss", "val_dice", "dice")


def follow(client: Client, name: str, *, label: str = "", quiet: bool = False) -> job_pb2.Job:
    """Shows a job's progress until it has ended, and how it ended.

    Args:
        client: The system it runs on.
        name: ``jobs/{id}``.
        label: What to call it; by default its name.
        quiet: Only wait.

    Returns:
        The ended job.
    """
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[stage]:<10} {task.completed:>4}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[measures]}", markup=False),
        console=console,
        disable=quiet,
    ) as bar:
        task = bar.add_task(label or name, total=1, stage="queued", measures="")
        for event in client.jobs.watch(name):
            match event.WhichOneof("event"):
                case "progress":
                    now = event.progress
                    bar.update(task, stage=now.stage)
                    if now.steps:
                        bar.update(task, total=now.steps, completed=now.step)
                    shown = [f"{k} {event.metrics[k]:.3f}" for k in _SHOWN if k in event.metrics]
                    if shown:
                        bar.update(task, measures=" ".join(shown))
                case "state":
                    state = job_pb2.JobState.Name(event.state).removeprefix("JOB_STATE_").lower()
                    bar.update(task, stage=state)
    job = client.jobs.get(name)
    if job.state == job_pb2.JOB_STATE_FAILED and not quiet:
        explain(job)
    return job


def explain(job: job_pb2.Job) -> None:
    """Prints why a job failed, what helps, and the last lines of its log."""
    complain(f"{job.name} failed: {job.error.message}")
    for detail in job.error.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            complain(f"what helps: {info.metadata['hint']}")
            if tail := info.metadata["log_tail"]:
                complain(f"the end of its log:\n{tail}")
