"""``histill jobs``: submit, follow and cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from histill.api.distillation.v1 import job_pb2
from histill.cli.files import load_yaml
from histill.cli.output import JsonFlag, print_json, print_json_line, print_table, say
from histill.cli.watching import follow
from histill.client import Client
from histill.core.json_form import as_dict

app = typer.Typer(no_args_is_help=True, help="Distillation jobs.")
Name = Annotated[str, typer.Argument(help="jobs/ID, or the ID alone.")]


def state_of(job: job_pb2.Job) -> str:
    """The job's state as one lower-case word."""
    return job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()


def reference_of(model: str) -> str:
    """``name@3`` of ``models/name/versions/3``, which is what commands take."""
    _, _, rest = model.partition("/")
    return rest.replace("/versions/", "@")


@app.command()
def submit(
    spec: Annotated[Path, typer.Argument(help="YAML file.", exists=True, dir_okay=False)],
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    request_id: Annotated[str, typer.Option(help="Idempotency key.")] = "",
    pool: Annotated[str, typer.Option(help="Whose workers run it; else as in the file.")] = "",
    json: JsonFlag = False,
) -> None:
    """Submits the job that a YAML file describes."""
    with Client.connect() as client:
        job = client.jobs.submit(load_yaml(spec), request_id=request_id, pool=pool)
        if not json:
            say(f"{job.name} {state_of(job)}")
        if watch:
            job = follow(client, job.name, quiet=json)
        if json:
            print_json(as_dict(job))
    _exit(job)


@app.command("ls")
def list_jobs(json: JsonFlag = False) -> None:
    """Lists jobs, newest first."""
    with Client.connect() as client:
        jobs = list(client.jobs.list())
    if json:
        print_json([as_dict(job) for job in jobs])
        return
    # Who has one pool need not read its name on each line.
    pools = len({job.pool for job in jobs}) > 1
    print_table(
        "jobs",
        ("job", "kind", *(["pool"] if pools else []), "state", "progress", "result", "about"),
        [
            (
                job.name,
                job_pb2.JobKind.Name(job.kind).removeprefix("JOB_KIND_").lower(),
                *([job.pool] if pools else []),
                state_of(job),
                f"{job.progress.step}/{job.progress.steps}" if job.progress.steps else "",
                reference_of(job.result_model),
                job.error.message or job.display_name,
            )
            for job in jobs
        ],
    )


@app.command()
def get(name: Name) -> None:
    """Prints one job as JSON."""
    with Client.connect() as client:
        print_json(as_dict(client.jobs.get(full_name(name))))


@app.command()
def watch(name: Name, json: JsonFlag = False) -> None:
    """Follows a job to its end; with --json, one event a line."""
    with Client.connect() as client:
        if json:
            for event in client.jobs.watch(full_name(name)):
                print_json_line(as_dict(event))
            job = client.jobs.get(full_name(name))
        else:
            job = follow(client, full_name(name))
    _exit(job)


@app.command()
def cancel(name: Name) -> None:
    """Cancels a job: at once when queued, within five seconds when running."""
    with Client.connect() as client:
        job = client.jobs.cancel(full_name(name))
    say(f"{job.name} {'cancelling' if job.cancel_requested else state_of(job)}")


@app.command()
def report(
    name: Name,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
) -> None:
    """Writes a finished job's report: curves, examples, measures, digests."""
    with Client.connect() as client:
        out.write_bytes(client.jobs.report(full_name(name)))
    say(f"wrote {out}")


@app.command()
def samples(
    name: Name,
    out: Annotated[Path, typer.Option(help="NumPy archive to write.")] = Path("samples.npz"),
) -> None:
    """Writes what the generators of a data-free job made: hard and simple samples."""
    with Client.connect() as client:
        out.write_bytes(client.jobs.samples(full_name(name)))
    say(f"wrote {out}")


@app.command("rm")
def remove(name: Name) -> None:
    """Removes an ended job; its result model stays."""
    with Client.connect() as client:
        client.jobs.delete(full_name(name))


def full_name(name: str) -> str:
    """``jobs/ID`` of that, or of the ID alone."""
    return name if name.startswith("jobs/") else f"jobs/{name}"


def _exit(job: job_pb2.Job) -> None:
    if job.state in {job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}:
        raise typer.Exit(1)
