"""Real trainer processes on a tiny data set of bright discs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from histill.core.catalog import file_of
from histill.core.manifests import DatasetManifest, LabelKind, ModelManifest
from histill.core.specs import MultiTeacherSpec, NetworkSpec, SupervisedSpec, TrainingSpec
from histill.distill import checkpoint_file
from histill.distill.workdir import RunEvent, RunOrder, Workdir
from running import running

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NETWORK = NetworkSpec(width=4, depth=3)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TRAINER = [sys.executable, "-m", "histill.distill.trainer"]
PATIENCE_S = 120
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_SHORT = {"steps": 60, "batch_size": 4, "crop_size": 32, "learning_rate": 0.01}


def png(array: np.ndarray[Any, Any]) -> bytes:
    """An array as a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def members(*, top: int = 1) -> dict[str, bytes]:
    """Eight training and three validation images of 40 x 36 pixels; labels hold 0 and ``top``."""
    found = {}
    for number in range(11):
        rng = np.random.default_rng(number)
        row, column = rng.uniform(12, 24, 2)
        rows, columns = np.mgrid[:40, :36]
        disc = np.hypot(rows - row, columns - column) < 8
        image = (rng.normal(70, 25, disc.shape) + 90 * disc).clip(0, 255).astype(np.uint8)
        name = f"{'train' if number < 8 else 'val'}/{number:02d}"
        found[f"{name}.image.png"] = png(image)
        found[f"{name}.label.png"] = png(disc.astype(np.uint8) * np.uint8(top))
    return found


@dataclass(frozen=True)
class Asked:
    """What an order asks for.

    Attributes:
        teachers: Work folders of earlier runs whose models teach.
        training: Numbers that differ from those of a short training.
        network: Of the student.
        members: Of the dataset.
        cache: Folder for what teachers say; ``None`` keeps nothing.
        checkpoint_s: Seconds between checkpoints.
    """

    teachers: tuple[Workdir, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    network: NetworkSpec = NETWORK
    members: Mapping[str, bytes] = field(default_factory=members)
    cache: Path | None = None
    checkpoint_s: float = 60.0


def ordered(root: Path, asked: Asked) -> Workdir:
    """A work folder with an order to train, or to distil from earlier work folders."""
    workdir = Workdir(root)
    shard = workdir.dataset / "shard-00000.tar"
    shard.parent.mkdir(parents=True)
    with tarfile.open(shard, "w") as tar:
        for name, data in asked.members.items():
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
    training = TrainingSpec.model_validate({**_SHORT, **asked.training})
    manifests = [_taught_by(workdir, *pair) for pair in enumerate(asked.teachers)]
    spec: SupervisedSpec | MultiTeacherSpec
    if manifests:
        spec = MultiTeacherSpec(
            dataset="discs",
            output_model="student",
            teachers=tuple(m.name for m in manifests),
            student=asked.network,
            training=training.model_copy(update={"labeled_images": 2}),
        )
    else:
        spec = SupervisedSpec(
            dataset="discs", output_model="teacher", network=asked.network, training=training
        )
    workdir.write_order(
        RunOrder(
            job="jobs/1",
            attempt=1,
            spec=spec,
            dataset=dataset,
            teachers=tuple(manifests),
            teacher_cache=str(asked.cache or ""),
            teacher_cache_bytes=1 << 30,
            checkpoint_s=asked.checkpoint_s,
        )
    )
    return workdir


def _taught_by(workdir: Workdir, index: int, teacher: Workdir) -> ModelManifest:
    workdir.teacher(index).parent.mkdir(exist_ok=True)
    workdir.teacher(index).symlink_to(teacher.result)
    return ModelManifest(
        name=f"teacher-{index}",
        version=1,
        network=NETWORK,
        create_time=_NOW,
        files=(file_of(teacher.result / "weights.safetensors"),),
        **teacher.read_result().model_dump(),
    )


def command(workdir: Workdir, *, processes: int = 1) -> list[str]:
    """How a trainer is started on a work folder."""
    if processes == 1:
        return [*TRAINER, str(workdir.root)]
    many = [*_TORCHRUN, f"--nproc-per-node={processes}", "-m", "histill.distill.trainer"]
    return [*many, str(workdir.root)]


def run(workdir: Workdir, *, processes: int = 1) -> subprocess.CompletedProcess[str]:
    """A trainer from its start to its end."""
    return subprocess.run(
        command(workdir, processes=processes),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        env=ENVIRONMENT,
    )


def events(stdout: str) -> list[RunEvent]:
    """What a trainer told."""
    return [RunEvent.model_validate_json(line) for line in stdout.splitlines()]


def reached(workdir: Workdir) -> int:
    """The step of the checkpoint, or the round where there is no data; -1 without one."""
    if not workdir.checkpoint.exists():
        return -1
    # The reader opens a file twice, and the trainer may put another in its place between.
    seen = shutil.copyfile(workdir.checkpoint, workdir.root / "seen.safetensors")
    tree = checkpoint_file.load(seen)
    return int(tree["shared"].get("step", tree["own"][0].get("round")))


def killed(workdir: Workdir, *, at: int, processes: int = 1) -> int:
    """Starts a trainer, kills it once a checkpoint is of this step or later; of which it is."""
    process = subprocess.Popen(
        command(workdir, processes=processes),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while reached(workdir) < at and time.monotonic() < deadline:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
    finally:
        # Those that a launcher started end by themselves, but not at once.
        for number in running(f"histill.distill.trainer {workdir.root}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait()
    assert not (workdir.root / "result.json").exists()
    return reached(workdir)
