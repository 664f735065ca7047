"""The real training subprocess on a tiny data set of bright discs."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from safetensors.numpy import load_file

from histill.core.catalog import file_of
from histill.core.manifests import (
    MOST_LOST,
    DatasetManifest,
    LabelKind,
    ModelManifest,
    ModelRole,
)
from histill.core.specs import MultiTeacherSpec, NetworkSpec, SupervisedSpec, TrainingSpec
from histill.distill.workdir import RunEvent, RunOrder, Workdir

if TYPE_CHECKING:
    from pathlib import Path

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_TRAINER = [sys.executable, "-m", "histill.distill.trainer"]
_ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
_NETWORK = NetworkSpec(width=4, depth=3)
_PATIENCE_S = 120


def _png(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _members(*, top: int = 1) -> dict[str, bytes]:
    """Eight training and three validation images of 40 x 36 pixels; labels hold 0 and ``top``."""
    members = {}
    for number in range(11):
        rng = np.random.default_rng(number)
        row, column = rng.uniform(12, 24, 2)
        rows, columns = np.mgrid[:40, :36]
        disc = np.hypot(rows - row, columns - column) < 8
        image = (rng.normal(70, 25, disc.shape) + 90 * disc).clip(0, 255).astype(np.uint8)
        name = f"{'train' if number < 8 else 'val'}/{number:02d}"
        members[f"{name}.image.png"] = _png(image)
        members[f"{name}.label.png"] = _png(disc.astype(np.uint8) * np.uint8(top))
    return members


def _order(
    root: Path,
    *,
    teachers: tuple[Workdir, ...] = (),
    steps: int = 60,
    members: dict[str, bytes] | None = None,
    cache: Path | None = None,
) -> Workdir:
    """A work folder with an order to train, or to distil from earlier work folders."""
    workdir = Workdir(root)
    shard = workdir.dataset / "shard-00000.tar"
    shard.parent.mkdir(parents=True)
    with tarfile.open(shard, "w") as tar:
        for name, data in (members or _members()).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    dataset = DatasetManifest(
        name="discs",
        version=1,
        classes=("background", "disc"),
        channels=1,
        label_kind=LabelKind.SEMANTIC,
        splits={"train": 8, "val": 3},
        create_time=_NOW,
        files=(file_of(shard),),
    )
    training = TrainingSpec(steps=steps, batch_size=4, crop_size=32, learning_rate=0.01)
    manifests = []
    for index, teacher in enumerate(teachers):
        made = teacher.read_result()
        workdir.teacher(index).parent.mkdir(exist_ok=True)
        workdir.teacher(index).symlink_to(teacher.result)
        manifests.append(
            ModelManifest(
                name=f"teacher-{index}",
                version=1,
                network=_NETWORK,
                create_time=_NOW,
                files=(file_of(teacher.result / "weights.safetensors"),),
                **made.model_dump(),
            )
        )
    spec: SupervisedSpec | MultiTeacherSpec
    if teachers:
        spec = MultiTeacherSpec(
            dataset="discs",
            output_model="student",
            teachers=tuple(m.name for m in manifests),
            student=_NETWORK,
            training=training.model_copy(update={"labeled_images": 2}),
        )
    else:
        spec = SupervisedSpec(
            dataset="discs", output_model="teacher", network=_NETWORK, training=training
        )
    workdir.write_order(
        RunOrder(
            job="jobs/1",
            attempt=1,
            spec=spec,
            dataset=dataset,
            teachers=tuple(manifests),
            teacher_cache=str(cache or ""),
            teacher_cache_bytes=1 << 30,
        )
    )
    return workdir


def _run(workdir: Workdir, *prefix: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, *_TRAINER[-2:]] if prefix else _TRAINER
    return subprocess.run(
        [*command, str(workdir.root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE_S,
        env=_ENVIRONMENT,
    )


def _events(stdout: str) -> list[RunEvent]:
    return [RunEvent.model_validate_json(line) for line in stdout.splitlines()]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workdir, str]:
    """A trained teacher's folder, and what its trainer said."""
    workdir = _order(tmp_path_factory.mktemp("teacher"))
    done = _run(workdir)
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
    members = _members()
    image = np.asarray(Image.open(io.BytesIO(members["val/08.image.png"])))[:40, :36, None]
    truth = np.asarray(Image.open(io.BytesIO(members["val/08.label.png"])))
    mask = session.run(["mask"], {"image": image[None]})[0][0]
    assert 2 * (mask * truth).sum() / (mask.sum() + truth.sum()) > 0.8


def test_the_trainer_tells_its_stages(teacher: tuple[Workdir, str]) -> None:
    """Events are JSON lines that go from training to exporting and end at the last step."""
    events = _events(teacher[1])
    stages = list(dict.fromkeys(event.progress.stage for event in events))
    assert stages == ["training", "validating", "exporting"]
    assert any("loss" in event.metrics for event in events)
    assert events[-1].metrics["val_dice"] == teacher[0].read_result().metrics["dice"]
    assert (events[-1].progress.step, events[-1].progress.steps) == (60, 60)


def test_two_teachers_are_distilled_into_a_student(
    tmp_path: Path, teacher: tuple[Workdir, str]
) -> None:
    """A student learns from teachers and two labels, and the teachers' weights are told."""
    workdir = _order(tmp_path, teachers=(teacher[0], teacher[0]))
    done = _run(workdir)
    assert done.returncode == 0, done.stderr
    assert workdir.read_result().role is ModelRole.STUDENT
    assert workdir.read_result().metrics["dice"] > 0.8
    events = _events(done.stdout)
    assert events[0].progress.stage == "teachers"
    weights = [e.metrics for e in events if "teacher_weight_1" in e.metrics]
    assert weights[-1]["teacher_weight_0"] == pytest.approx(0.5, abs=1e-3)
    assert "labeled=2 unlabeled=6" in done.stderr


def test_a_bad_label_fails_with_words_that_help(tmp_path: Path) -> None:
    """A label value that is no class ends in exit code 1 and an error.json that says so."""
    workdir = _order(tmp_path, members=_members(top=7))
    assert _run(workdir).returncode == 1
    error = workdir.read_error()
    assert error is not None
    assert error.reason == "DATASET_INVALID"
    assert "holds the value 7, but there are 2 classes" in error.message
    assert not (tmp_path / "result.json").exists()


def test_sigterm_ends_the_training_at_once(tmp_path: Path) -> None:
    """During training, SIGTERM ends the process within a second, without a result."""
    workdir = _order(tmp_path, steps=100_000)
    with subprocess.Popen(
        [*_TRAINER, str(workdir.root)], stdout=subprocess.PIPE, text=True, env=_ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if RunEvent.model_validate_json(line).progress.step > 0:
                break
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=_PATIENCE_S)
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
        workdir = _order(tmp_path / name, teachers=(teacher[0],), steps=5, cache=folder)
        assert _run(workdir).returncode == 0
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
    workdir = _order(tmp_path / "run", teachers=(teacher[0],), cache=cache)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = _run(workdir, *torchrun, "--nproc-per-node=2")
    assert done.returncode == 0, done.stderr
    assert workdir.read_result().metrics["dice"] > 0.8
    training = [e for e in _events(done.stdout) if e.progress.stage == "training"]
    steps = [e.progress.step for e in training]
    assert steps == sorted(steps)
    assert sum(path.is_file() for path in cache.rglob("*")) == 8


def test_of_two_processes_the_one_that_knows_why_is_heard(tmp_path: Path) -> None:
    """What fails in all ranks, or in one, ends up in error.json with its reason."""
    workdir = _order(tmp_path, members=_members(top=7))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    assert _run(workdir, *torchrun, "--nproc-per-node=2").returncode != 0
    error = workdir.read_error()
    assert error is not None
    assert error.reason == "DATASET_INVALID"


def test_wrong_usage_is_exit_code_two(tmp_path: Path) -> None:
    """A folder without an order is a usage error."""
    assert _run(Workdir(tmp_path)).returncode == 2
