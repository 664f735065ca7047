"""The real training subprocess on a tiny data set of bright discs."""

from __future__ import annotations

import io
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from safetensors.numpy import load_file

from histill.core.manifests import MOST_LOST, ModelRole
from histill.distill.workdir import RunEvent, Workdir
from trainer_runs import ENVIRONMENT, PATIENCE_S, Asked, command, events, members, ordered, run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workdir, str]:
    """A trained teacher's folder, and what its trainer said."""
    workdir = ordered(tmp_path_factory.mktemp("teacher"), Asked())
    done = run(workdir)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_training_leaves_a_model_that_segments(teacher: tuple[Workdir, str]) -> None:
    """Weights, ONNX, card and report are there, and the exported model finds the discs."""
    workdir, _ = teacher
    result = workdir.read_result()
    assert result.role is ModelRole.TEACHER
    assert result.metrics["dice"] > 0.8
    assert {"dice", "iou", "nsd2", "loss", "training_seconds"} <= set(result.metrics)
    names = {path.name for path in workdir.result.iterdir()}
    expected = {"weights.safetensors", "model.onnx", "card.md", "report.html"}
    if result.metrics["dice_lost_in_int8"] <= MOST_LOST:
        expected.add("model.int8.onnx")
    assert names == expected
    assert load_file(workdir.result / "weights.safetensors")
    session = onnxruntime.InferenceSession(workdir.result / "model.onnx")
    files = members()
    image = np.asarray(Image.open(io.BytesIO(files["val/08.image.png"])))[:40, :36, None]
    truth = np.asarray(Image.open(io.BytesIO(files["val/08.label.png"])))
    mask = session.run(["mask"], {"image": image[None]})[0][0]
    assert 2 * (mask * truth).sum() / (mask.sum() + truth.sum()) > 0.8


def test_the_trainer_tells_its_stages(teacher: tuple[Workdir, str]) -> None:
    """Events are JSON lines that go from training to quantizing and end at the last step."""
    told = events(teacher[1])
    stages = list(dict.fromkeys(event.progress.stage for event in told))
    assert stages == ["training", "validating", "exporting", "quantizing"]
    assert any("loss" in event.metrics for event in told)
    exporting = next(event for event in told if event.progress.stage == "exporting")
    assert exporting.metrics["val_dice"] == teacher[0].read_result().metrics["dice"]
    assert (told[-1].progress.step, told[-1].progress.steps) == (60, 60)


def test_two_teachers_are_distilled_into_a_student(
    tmp_path: Path, teacher: tuple[Workdir, str]
) -> None:
    """A student learns from teachers and two labels, and the teachers' weights are told."""
    workdir = ordered(tmp_path, Asked(teachers=(teacher[0], teacher[0])))
    done = run(workdir)
    assert done.returncode == 0, done.stderr
    assert workdir.read_result().role is ModelRole.STUDENT
    assert workdir.read_result().metrics["dice"] > 0.8
    told = events(done.stdout)
    assert told[0].progress.stage == "teachers"
    weights = [e.metrics for e in told if "teacher_weight_1" in e.metrics]
    assert weights[-1]["teacher_weight_0"] == pytest.approx(0.5, abs=1e-3)
    assert "labeled=2 unlabeled=6" in done.stderr


def test_a_bad_label_fails_with_words_that_help(tmp_path: Path) -> None:
    """A label value that is no class ends in exit code 1 and an error.json that says so."""
    workdir = ordered(tmp_path, Asked(members=members(top=7)))
    assert run(workdir).returncode == 1
    error = workdir.read_error()
    assert error is not None
    assert error.reason == "DATASET_INVALID"
    assert "holds the value 7, but there are 2 classes" in error.message
    assert not (tmp_path / "result.json").exists()


def test_sigterm_ends_the_training_at_once(tmp_path: Path) -> None:
    """During training, SIGTERM ends the process within a second, without a result."""
    workdir = ordered(tmp_path, Asked(training={"steps": 100_000}))
    with subprocess.Popen(
        command(workdir), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if RunEvent.model_validate_json(line).progress.step > 0:
                break
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE_S)
        assert time.monotonic() - started < 1
    assert not (tmp_path / "result.json").exists()


def test_a_student_is_the_same_with_a_cache_without_and_from_it(
    tmp_path: Path, teacher: tuple[Workdir, str]
) -> None:
    """Three runs end with the same weights bit for bit; the third asks no teacher."""
    cache = tmp_path / "cache"
    students: list[bytes] = []
    kept: dict[Path, int] = {}
    for name, folder in (("without", None), ("filling", cache), ("reading", cache)):
        asked = Asked(teachers=(teacher[0],), training={"steps": 5}, cache=folder)
        workdir = ordered(tmp_path / name, asked)
        assert run(workdir).returncode == 0
        students.append((workdir.result / "weights.safetensors").read_bytes())
        if folder:
            entries = {p: p.stat().st_ino for p in cache.rglob("*") if p.is_file()}
            assert len(entries) == 8  # training images
            kept = entries if name == "filling" else kept
            assert entries == kept
    assert students[0] == students[1] == students[2]


def test_two_processes_train_one_model(tmp_path: Path, teacher: tuple[Workdir, str]) -> None:
    """Under torchrun two processes share images and batch; the first reports and writes."""
    cache = tmp_path / "cache"
    workdir = ordered(tmp_path / "run", Asked(teachers=(teacher[0],), cache=cache))
    done = run(workdir, processes=2)
    assert done.returncode == 0, done.stderr
    assert workdir.read_result().metrics["dice"] > 0.8
    training = [e for e in events(done.stdout) if e.progress.stage == "training"]
    steps = [e.progress.step for e in training]
    assert steps == sorted(steps)
    assert sum(path.is_file() for path in cache.rglob("*")) == 8


def test_of_two_processes_the_one_that_knows_why_is_heard(tmp_path: Path) -> None:
    """What fails in all ranks, or in one, ends up in error.json with its reason."""
    workdir = ordered(tmp_path, Asked(members=members(top=7)))
    assert run(workdir, processes=2).returncode != 0
    error = workdir.read_error()
    assert error is not None
    assert error.reason == "DATASET_INVALID"


def test_wrong_usage_is_exit_code_two(tmp_path: Path) -> None:
    """A folder without an order is a usage error."""
    assert run(Workdir(tmp_path)).returncode == 2
