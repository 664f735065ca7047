"""The main path over the real processes: data, teachers, student, served mask."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.rpc import error_details_pb2
from PIL import Image
from pydantic import SecretStr

from histill.api.distillation.v1 import job_pb2
from histill.client import Client
from histill.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnauthenticatedError,
)
from pictures import blobs, write_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from histill.api.registry.v1 import dataset_pb2
    from histill.embedded.stack import Stack

TRAINING = {"steps": 60, "batch_size": 8, "crop_size": 32, "learning_rate": 0.01}
NETWORK = {"architecture": "unet", "width": 4, "depth": 3}


def supervised(dataset: str, name: str, **training: Any) -> dict[str, Any]:
    return {
        "supervised": {
            "dataset": dataset,
            "output_model": name,
            "network": NETWORK,
            "training": TRAINING | training,
        }
    }


@pytest.fixture(scope="module")
def dataset(client: Client, tmp_path_factory: pytest.TempPathFactory) -> dataset_pb2.Dataset:
    """A pushed dataset of discs."""
    return client.datasets.push(write_dataset(tmp_path_factory.mktemp("discs")), name="discs")


@pytest.fixture(scope="module")
def teacher(client: Client, dataset: dataset_pb2.Dataset) -> str:
    """Reference of a trained teacher."""
    job = client.jobs.wait(client.jobs.submit(supervised(dataset.reference, "teacher")).name)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
    return "teacher@1"


@pytest.fixture(scope="module")
def second(client: Client, dataset: dataset_pb2.Dataset) -> str:
    """Reference of another teacher."""
    spec = supervised(dataset.reference, "second", seed=1)
    job = client.jobs.wait(client.jobs.submit(spec).name)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
    return "second@1"


@pytest.fixture(scope="module")
def student(client: Client, dataset: dataset_pb2.Dataset, teacher: str, second: str) -> str:
    """Reference of a student distilled from both teachers."""
    spec = {
        "multi_teacher": {
            "dataset": dataset.reference,
            "output_model": "student",
            "teachers": [teacher, second],
            "student": NETWORK,
            "training": TRAINING | {"labeled_images": 2},
        }
    }
    job = client.jobs.wait(client.jobs.submit(spec).name)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
    return "student@1"


def test_a_student_is_distilled_registered_and_served(client: Client, student: str) -> None:
    """The student of two teachers segments an unseen image nearly as its labels say."""
    client.models.alias(student, "production")
    image, labels = blobs(4711)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    found = client.segment(buffer.getvalue(), model="student@production")
    mask = np.asarray(Image.open(io.BytesIO(found.mask)))
    overlap = 2 * ((mask == 1) & (labels == 1)).sum() / ((mask == 1).sum() + (labels == 1).sum())
    assert overlap > 0.8
    assert found.summary.model == student
    assert found.summary.classes[1].pixels == int((mask == 1).sum())


def test_the_students_lineage_and_files_are_recorded(
    client: Client, student: str, teacher: str, second: str, tmp_path: Path
) -> None:
    """The registry knows where a student comes from, and its files arrive undamaged."""
    model, files = client.models.download(student, tmp_path)
    assert (list(model.teachers), model.dataset) == ([teacher, second], "discs@1")
    names = {path.name for path in files} - {"model.int8.onnx"}  # where it is as good
    assert names == {"weights.safetensors", "model.onnx", "card.md"}
    digests = {file.path: file.sha256 for file in model.files}
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digests[path.name]


def test_a_jobs_report_is_one_page(
    stack: Stack, client: Client, student: str, tmp_path: Path
) -> None:
    """The report shows pictures without asking anybody for them; other jobs have none."""
    job, page = client.models.get(student).job, tmp_path / "r.html"
    assert histill(stack, "jobs", "report", job, "--out", str(page)).returncode == 0
    text = page.read_text()
    assert "data:image/jpeg;base64," in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    with pytest.raises(NotFoundError, match="jobs/00000000"):
        client.jobs.report("jobs/00000000")


def test_events_can_be_resumed_and_end_with_the_final_state(client: Client, student: str) -> None:
    """A watcher that comes back sees what it missed, each event once."""
    job = client.models.get(student).job
    events = list(client.jobs.watch(job))
    assert events[0].state == job_pb2.JOB_STATE_QUEUED
    assert events[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    assert any(event.progress.stage == "training" for event in events)
    half = len(events) // 2
    rest = list(client.jobs.watch(job, after_event_id=events[half].event_id))
    assert [event.event_id for event in rest] == [e.event_id for e in events[half + 1 :]]


def test_a_running_job_is_cancelled_within_five_seconds(
    client: Client, dataset: dataset_pb2.Dataset
) -> None:
    """Cancel ends a training that would take minutes; nothing is registered."""
    job = client.jobs.submit(supervised(dataset.reference, "never", steps=100_000))
    for event in client.jobs.watch(job.name):
        if event.progress.stage == "training" and event.progress.step > 0:
            break
    started = time.monotonic()
    client.jobs.cancel(job.name)
    assert client.jobs.wait(job.name).state == job_pb2.JOB_STATE_CANCELLED
    assert time.monotonic() - started < 5
    with pytest.raises(NotFoundError):
        client.models.get("never")


def test_a_starting_job_is_cancelled_within_five_seconds(
    client: Client, dataset: dataset_pb2.Dataset
) -> None:
    """Cancel also works before the first step, while the trainer still loads."""
    job = client.jobs.submit(supervised(dataset.reference, "never", steps=100_000))
    for event in client.jobs.watch(job.name):
        if event.state == job_pb2.JOB_STATE_RUNNING:
            break
    started = time.monotonic()
    client.jobs.cancel(job.name)
    assert client.jobs.wait(job.name).state == job_pb2.JOB_STATE_CANCELLED
    assert time.monotonic() - started < 5


def test_a_queued_job_is_cancelled_at_once(client: Client, dataset: dataset_pb2.Dataset) -> None:
    """A job behind a running one is cancelled without ever starting."""
    running = client.jobs.submit(supervised(dataset.reference, "never", steps=100_000))
    queued = client.jobs.submit(supervised(dataset.reference, "never"))
    assert client.jobs.cancel(queued.name).state == job_pb2.JOB_STATE_CANCELLED
    client.jobs.cancel(running.name)
    client.jobs.wait(running.name)
    assert client.jobs.get(queued.name).attempt == 0
    with pytest.raises(FailedPreconditionError):
        client.jobs.cancel(client.models.get("teacher").job)


def test_a_failed_job_says_why_and_what_helps(client: Client, stack: Stack, tmp_path: Path) -> None:
    """Numbered objects under four classes fail with a reason, words, a hint and the log."""
    folder = write_dataset(tmp_path)
    label = folder / "train" / "labels" / "0.png"
    Image.fromarray(np.full((48, 48), 9, np.uint8)).save(label)
    classes = ("background", "one", "two", "three")
    dataset = client.datasets.push(folder, name="numbered", classes=classes, labels="instance")
    job = client.jobs.wait(client.jobs.submit(supervised(dataset.reference, "never")).name)
    assert job.state == job_pb2.JOB_STATE_FAILED
    info = error_details_pb2.ErrorInfo()
    assert job.error.details[0].Unpack(info)
    assert info.reason == "DATASET_INVALID"
    assert job.error.message
    assert info.metadata["hint"]
    assert info.metadata["log_tail"]
    shown = histill(stack, "jobs", "watch", job.name)
    assert shown.returncode == 1
    assert info.metadata["hint"][:20] in shown.stderr.replace("\n", " ")


def test_every_bad_field_is_named(client: Client) -> None:
    """A spec out of range is refused with the path of each bad field."""
    with pytest.raises(InvalidArgumentError) as caught:
        client.jobs.submit(
            {
                "supervised": {
                    "dataset": "No Such Name!",
                    "output_model": "x",
                    "training": {"steps": 0, "learning_rate": 5},
                },
                "priority": 12,
            }
        )
    assert {violation.field for violation in caught.value.violations} == {
        "job.supervised.dataset",
        "job.supervised.training.steps",
        "job.supervised.training.learning_rate",
        "job.priority",
    }


def test_what_does_not_exist_is_named(client: Client, dataset: dataset_pb2.Dataset) -> None:
    """Unknown datasets, teachers, models and jobs are named in the error."""
    with pytest.raises(NotFoundError, match="nowhere"):
        client.jobs.submit(supervised("nowhere", "x"))
    with pytest.raises(NotFoundError, match="nobody"):
        client.jobs.submit(
            {
                "multi_teacher": {
                    "dataset": dataset.reference,
                    "output_model": "x",
                    "teachers": ["nobody@production"],
                }
            }
        )
    with pytest.raises(NotFoundError, match="nothing"):
        client.segment(b"", model="nothing")
    with pytest.raises(NotFoundError, match="jobs/00000000"):
        client.jobs.get("jobs/00000000")


def test_one_idempotency_key_makes_one_job(client: Client, dataset: dataset_pb2.Dataset) -> None:
    """A repeated CreateJob returns the first one's job."""
    spec = supervised(dataset.reference, "never", steps=100_000)
    first = client.jobs.submit(spec, request_id="once")
    assert client.jobs.submit(spec, request_id="once").name == first.name
    client.jobs.cancel(first.name)
    client.jobs.wait(first.name)


def test_a_wrong_key_is_refused(stack: Stack) -> None:
    """Without the right API key no service answers."""
    wrong = stack.client.model_copy(update={"api_key": SecretStr("hst_wrong")})
    with Client(wrong) as client, pytest.raises(UnauthenticatedError):
        list(client.jobs.list())


def histill(stack: Stack, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "histill.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"HISTILL_HOME": str(stack.home)} | variables,
    )


def test_the_command_line_reaches_the_system(stack: Stack, student: str, tmp_path: Path) -> None:
    """The commands list, segment and print JSON against the running system."""
    listed = json.loads(histill(stack, "models", "ls", "--json").stdout)
    assert student in {model["reference"] for model in listed}
    image = tmp_path / "tile.png"
    Image.fromarray(blobs(5)[0]).save(image)
    done = histill(
        stack, "segment", str(image), "--model", student, "--out", str(tmp_path), "--overlay"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tile.mask.png").exists()
    with Image.open(tmp_path / "tile.overlay.png") as overlay:
        assert overlay.size == (48, 48)


def test_the_command_lines_exit_codes(stack: Stack, tmp_path: Path) -> None:
    """2 for wrong usage, 1 for what failed, with a sentence and no traceback."""
    spec = tmp_path / "bad.yaml"
    spec.write_text("supervised: {dataset: x, output_model: y, training: {steps: -1}}")
    bad = histill(stack, "jobs", "submit", str(spec))
    assert (bad.returncode, "steps" in bad.stderr) == (2, True)
    missing = histill(stack, "models", "get", "nothing")
    assert (missing.returncode, "nothing" in missing.stderr) == (1, True)
    assert "Traceback" not in bad.stderr + missing.stderr


def test_doctor_finds_a_wrong_key(stack: Stack) -> None:
    """The doctor is content with a healthy system and names a wrong key and its remedy."""
    well = histill(stack, "doctor")
    assert well.returncode == 0, well.stdout
    ill = histill(stack, "doctor", HISTILL_CLIENT__API_KEY="hst_wrong")
    assert ill.returncode == 1
    assert "HISTILL_CLIENT__API_KEY" in ill.stdout
