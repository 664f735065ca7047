"""``histill doctor --end-to-end``: does the system do what it is for?

A tiny dataset goes in, a worker trains a network of it, and the inference service segments an
image with that; then all of it is removed.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from google.rpc import error_details_pb2

from histill.api.distillation.v1 import job_pb2
from histill.cli import end_to_end_images as images
from histill.cli.checks import Check
from histill.cli.end_to_end_removal import FINAL, Made, remove
from histill.core.errors import (
    DeadlineExceededError,
    HistillError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
    WorkFailedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.client import Client

T = TypeVar("T")
_POLL_S = 1.0
_TELL_S = 30.0
# A registered model is asked for at once; a service that is full is asked again.
_SERVED_S = 60.0
_ADMIN = (
    "set HISTILL_CLIENT__API_KEY to a key of the role admin, since what is made is removed at the "
    "end (histill keys create --role admin)"
)
_ADMIN_WORDS = "this check needs a key of the role admin, since it removes what it has made"
_WORKERS = (
    "is a worker running? its log says why it takes no job, histill jobs ls what is before this "
    "one; where workers come when there is work, look at what scales them, or wait for longer "
    "with --wait-s"
)


class _StepFailedError(Exception):
    """A step failed, which has been reported."""


def try_out(
    client: Client,
    *,
    wait_s: float,
    pool: str,
    keep: bool,
    report: Callable[[Check], None],
    tell: Callable[[str], None],
) -> None:
    """Uses every part of the system once.

    Args:
        client: With the key of an admin.
        wait_s: Seconds for the job, from its acceptance to its end.
        pool: Whose workers train; empty: the service's first.
        keep: Leave what is made, for somebody to look at.
        report: Told each step's outcome; the first that fails ends it.
        tell: Told what is being waited for.
    """
    made = Made(f"doctor-{secrets.token_hex(4)}")
    try:
        _step(report, "rights", _ADMIN, lambda: _rights(client))
    except _StepFailedError:
        return  # nothing was made
    try:
        _steps(client, made, wait_s=wait_s, pool=pool, report=report, tell=tell)
    except _StepFailedError:
        pass
    finally:  # also after Ctrl-C
        report(Check("removal", True, made.told()) if keep else _removed(client, made))


def _steps(
    client: Client,
    made: Made,
    *,
    wait_s: float,
    pool: str,
    report: Callable[[Check], None],
    tell: Callable[[str], None],
) -> None:
    registry = "the log of the registry service says more"
    dataset = _step(report, "dataset", registry, lambda: _pushed(client, made))
    jobs = "the log of the jobs service says more"
    job = _step(report, "job", jobs, lambda: _submitted(client, made, dataset, pool))
    model = _step(
        report, "training", _WORKERS, lambda: _trained(client, made, job, wait_s=wait_s, tell=tell)
    )
    inference = (
        "the log of the inference service says more; it must read the bucket that the registry "
        "writes (HISTILL_S3__BUCKET)"
    )
    _step(report, "segmentation", inference, lambda: _segmented(client, model))


def _step(
    report: Callable[[Check], None], name: str, remedy: str, work: Callable[[], tuple[T, str]]
) -> T:
    try:
        result, detail = work()
    except (HistillError, OSError) as exc:
        match exc:
            case WorkFailedError():
                remedy = exc.hint
            case PermissionDeniedError():
                remedy = _ADMIN
        report(Check(name, False, str(exc), remedy))
        raise _StepFailedError from exc
    report(Check(name, True, detail))
    return result


def _rights(client: Client) -> tuple[None, str]:
    """May we remove? Found out with what is not there, before anything is made."""
    nothing = f"doctor-{secrets.token_hex(8)}"
    for remove_one, what in (
        (client.datasets.delete, f"{nothing}@1"),
        (client.jobs.delete, f"jobs/{secrets.token_hex(10)}"),
    ):
        try:
            remove_one(what)
        except NotFoundError:
            continue
        except PermissionDeniedError as exc:
            raise PermissionDeniedError(f"{_ADMIN_WORDS}; {exc}") from exc
    return None, "admin"


def _pushed(client: Client, made: Made) -> tuple[str, str]:
    with tempfile.TemporaryDirectory(prefix="histill-doctor-") as folder:
        images.write_dataset(Path(folder))
        with made.making("dataset"):
            dataset = client.datasets.push(
                Path(folder),
                name=made.name,
                classes=images.CLASSES,
                labels="semantic",
                description="made up by histill doctor; of no patient",
            )
    counts = f"{images.TRAIN} made-up images to train, {images.VAL} to validate"
    made.parts["dataset"] = dataset.reference
    return dataset.reference, f"{dataset.reference} is registered: {counts}"


def _submitted(client: Client, made: Made, dataset: str, pool: str) -> tuple[str, str]:
    spec: dict[str, Any] = {
        "display_name": made.name,
        # It takes seconds, and somebody waits for it.
        "priority": 9,
        "supervised": {
            "dataset": dataset,
            "output_model": made.name,
            "network": {"architecture": "unet", "width": 4, "depth": 2},
            "training": {
                "steps": 40,
                "batch_size": 4,
                "crop_size": 32,
                "learning_rate": 0.01,
                "validations": 1,
            },
        },
    }
    with made.making("job"):
        made.goes_on = True
        job = client.jobs.submit(spec, pool=pool)
    made.parts["job"] = job.name
    return job.name, f"{job.name} is accepted"


def _trained(
    client: Client, made: Made, name: str, *, wait_s: float, tell: Callable[[str], None]
) -> tuple[str, str]:
    """The model's reference, once the job has succeeded.

    Raises:
        WorkFailedError: The job failed or was cancelled; with its own hint.
        DeadlineExceededError: It has not ended in time.
    """
    started, told, waited = time.monotonic(), "", 0.0
    while True:
        passed = time.monotonic() - started
        job: job_pb2.Job | None = None
        try:
            job = client.jobs.get(name)
            words = _doing(job)
        except UnavailableError as exc:
            words = f"the jobs service is away: {exc}"
        if job and job.state in FINAL:
            made.goes_on = False
            made.parts["model"] = _outcome(job)
            return made.parts["model"], f"took {passed:.0f} s, of which {waited:.0f} s in the queue"
        if not job or job.state == job_pb2.JOB_STATE_QUEUED:
            waited = passed
        if passed > wait_s:
            raise DeadlineExceededError(f"{name} has not ended after {wait_s:g} s; {words}")
        if late := int(passed // _TELL_S):
            words += f" ({late * _TELL_S:.0f} s so far)"
        if words != told:
            told = words
            tell(words)
        time.sleep(_POLL_S)


def _doing(job: job_pb2.Job) -> str:
    if job.state == job_pb2.JOB_STATE_QUEUED:
        return "queued: waiting for a worker"
    return f"running: {job.progress.stage or 'starting'}"


def _outcome(job: job_pb2.Job) -> str:
    if job.state == job_pb2.JOB_STATE_SUCCEEDED:
        return job.result_model.removeprefix("models/").replace("/versions/", "@")
    info = error_details_pb2.ErrorInfo()
    for detail in job.error.details:
        detail.Unpack(info)
    raise WorkFailedError(
        job.error.message or f"{job.name} was cancelled by somebody",
        reason=info.reason,
        hint=info.metadata["hint"] or "the log of the worker says more",
    )


def _segmented(client: Client, model: str) -> tuple[None, str]:
    """Segments an image that no split holds.

    Raises:
        CorruptArtifactError: The answer does not fit the image, or itself.
    """
    image, labels = images.held_out()
    deadline = time.monotonic() + _SERVED_S
    while True:
        try:
            found = client.inference.segment(image, model=model)
            break
        except (NotFoundError, UnavailableError, ResourceExhaustedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
    height, width = labels.shape
    dice = images.dice_of(found, labels)
    return None, f"{model} segments an image of {width}x{height} pixels; Dice {dice:.2f}"


def _removed(client: Client, made: Made) -> Check:
    try:
        left = remove(client, made)
    except KeyboardInterrupt:
        left = ["perhaps all, since the removal was interrupted"]
    if not left:
        return Check("removal", True, "what was made is removed")
    return Check(
        "removal",
        False,
        f"of {made.name} is left: {'; '.join(left)}",
        "remove it with histill jobs rm, histill models rm and histill datasets rm",
    )
