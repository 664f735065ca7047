"""A student without data, over the real processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from histill.api.distillation.v1 import job_pb2
from histill.core.errors import InvalidArgumentError, NotFoundError
from pictures import blobs, write_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from histill.client import Client
    from histill.embedded.stack import Stack

NETWORK = {"architecture": "unet", "width": 4, "depth": 3}


@pytest.fixture(scope="module")
def teacher(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reference of a teacher whose dataset is gone."""
    data = client.datasets.push(write_dataset(tmp_path_factory.mktemp("gone")), name="gone")
    spec = {
        "dataset": data.reference,
        "output_model": "free-teacher",
        "network": NETWORK,
        "training": {"steps": 120, "batch_size": 8, "crop_size": 32, "learning_rate": 0.01},
    }
    job = client.jobs.wait(client.jobs.submit({"supervised": spec}).name)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
    client.datasets.delete(data.reference)
    return "free-teacher@1"


def data_free(teacher: str, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "output_model": "free-student",
        "teachers": [teacher],
        "student": NETWORK,
        "training": {"steps": 400, "batch_size": 8, "image_size": 32, "learning_rate": 0.01},
        "generators": {"width": 4, "noise": 16},
    }
    return {"data_free": spec | changes}


def dice(client: Client, model: str) -> float:
    image, labels = blobs(4711)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    mask = np.asarray(Image.open(io.BytesIO(client.segment(buffer.getvalue(), model=model).mask)))
    return float(
        2 * ((mask == 1) & (labels == 1)).sum() / ((mask == 1).sum() + (labels == 1).sum())
    )


@pytest.fixture(scope="module")
def job(client: Client, teacher: str) -> job_pb2.Job:
    """A job that has succeeded."""
    ended = client.jobs.wait(client.jobs.submit(data_free(teacher)).name)
    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended.error
    assert ended.kind == job_pb2.JOB_KIND_DATA_FREE
    return ended


def test_a_student_is_distilled_without_data_and_served(
    client: Client, job: job_pb2.Job, teacher: str
) -> None:
    """With the dataset deleted, the student still comes near its teacher on a real image."""
    student = client.models.get("free-student")
    assert (student.dataset, list(student.teachers), student.job) == ("", [teacher], job.name)
    assert student.metrics["agreement_simple"] > 0.7
    assert dice(client, "free-student") > 0.9 * dice(client, teacher)


def test_generators_and_samples_live_and_die_with_the_job(
    client: Client, job: job_pb2.Job, teacher: str
) -> None:
    """The student is registered without them; with the job they are gone."""
    files = {file.path for file in client.models.get("free-student").files}
    assert files - {"model.int8.onnx"} == {"weights.safetensors", "model.onnx", "card.md"}
    kept = data_free(teacher, output_model="kept", keep_generators=True)
    kept["data_free"]["training"] |= {"steps": 10}
    ended = client.jobs.wait(client.jobs.submit(kept).name)
    assert {"generators.safetensors", "samples.npz"} <= {
        file.path for file in client.models.get("kept").files
    }
    client.jobs.delete(ended.name)
    with pytest.raises(NotFoundError):
        client.jobs.samples(ended.name)
    with np.load(io.BytesIO(client.jobs.samples(job.name))) as samples:
        assert samples["hard"].shape == samples["simple"].shape == (64, 32, 32, 3)


def test_the_report_says_what_was_touched(client: Client, job: job_pb2.Job, teacher: str) -> None:
    """It names the teacher, shows samples, and promises nothing formal."""
    page = client.jobs.report(job.name).decode()
    assert f"The job read the files and manifests of {teacher}, and nothing else" in page
    assert "No formal guarantee" in page
    assert page.count("data:image/jpeg;base64,") >= 4


def test_a_data_free_job_that_names_data_is_refused(client: Client, teacher: str) -> None:
    """Before anything is stored, with the field's path."""
    with pytest.raises(InvalidArgumentError, match=r"job\.data_free\.dataset"):
        client.jobs.submit(data_free(teacher, dataset="gone"))


def test_samples_are_compared_with_a_folder_on_this_machine(
    stack: Stack, job: job_pb2.Job, tmp_path: Path
) -> None:
    """The command says how near the samples of both generators come to real images."""
    folder = write_dataset(tmp_path / "discs") / "train" / "images"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "histill.cli.main", "privacy", "neighbours"),
            *(job.name, "--folder", str(folder)),
        ],
        env=os.environ | {"HISTILL_HOME": str(stack.home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "hard samples" in done.stdout
    assert "simple samples" in done.stdout
    assert "nothing of it was sent" in done.stdout
