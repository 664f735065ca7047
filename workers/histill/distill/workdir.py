"""The folder that supervisor and trainer share: the order goes in, the result comes out.

The trainer has no credentials and opens no socket of ours; everything passes
through this folder and its standard output::

    run.json                       the order (RunOrder or DataFreeOrder)
    dataset/shard-*.tar            the dataset's shards; none without data
    teachers/{i}/weights.safetensors
    checkpoint-wanted              made when one is wanted now
    checkpoint.safetensors         where the run goes on from, if there is one
    result/                        weights.safetensors, model.onnx, card.md, report.html
    result.json                    what was made (RunResult), written last
    error.json                     why it failed (JobError)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the dataclass holds one
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, TypeAdapter

from histill.core.jobs import JobError, Progress
from histill.core.manifests import (
    Appearance,
    DatasetManifest,
    DifferentialPrivacy,
    ModelManifest,
    ModelRole,
    Normalization,
)
from histill.core.specs import DataFreeSpec, MultiTeacherSpec, SupervisedSpec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from histill.core.manifests import ArtifactFile


CHECKPOINT_WANTED = "checkpoint-wanted"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class RunOrder(_Message):
    """What the trainer is to do with a dataset.

    Attributes:
        teacher_cache: Folder where teachers' predictions outlast the run; empty for none.
        teacher_cache_bytes: What it may hold at the end of a run.
        checkpoint_s: Seconds between checkpoints.
    """

    job: str
    attempt: int
    spec: SupervisedSpec | MultiTeacherSpec
    dataset: DatasetManifest
    teachers: tuple[ModelManifest, ...] = ()
    teacher_cache: str = ""
    teacher_cache_bytes: int = 0
    checkpoint_s: float = 60.0


class DataFreeOrder(_Message):
    """What the trainer is to do without data: there is no field that could name any.

    Attributes:
        checkpoint_s: Seconds between checkpoints.
    """

    job: str
    attempt: int
    spec: DataFreeSpec
    teachers: tuple[ModelManifest, ...]
    checkpoint_s: float = 60.0


Order = RunOrder | DataFreeOrder
_ORDER: TypeAdapter[Order] = TypeAdapter(Order)


class RunResult(_Message):
    """What the trainer made; the supervisor adds name, version, lineage and files.

    Attributes:
        image_size: Side of the crops or samples that it was trained on, in pixels.
        class_shares: Of the foreground classes in the pixels of labelled training images.
        privacy: What the student inherits of its teachers' guarantees.
        appearance: What the images look like; of a student made without data, those of its
            teacher, if it is the only one.
    """

    role: ModelRole
    channels: int
    classes: tuple[str, ...]
    normalization: Normalization
    parameters: int
    metrics: dict[str, float]
    image_size: int = 0
    class_shares: dict[str, float] = {}
    privacy: DifferentialPrivacy | None = None
    appearance: Appearance | None = None


def made_manifest(
    order: Order, result: RunResult, files: Iterable[ArtifactFile], *, create_time: datetime
) -> ModelManifest:
    """What a run made as a manifest, yet without a version.

    Args:
        order: What was asked for.
        result: What came out.
        files: Those that are kept.
        create_time: When.
    """
    return ModelManifest(
        **dict(result),
        name=order.spec.output_model,
        version=0,
        network=order.spec.network,
        task=order.spec.network.task,
        teachers=tuple(teacher.reference for teacher in order.teachers),
        dataset=order.dataset.reference if isinstance(order, RunOrder) else "",
        job=order.job,
        create_time=create_time,
        files=tuple(files),
    )


class RunEvent(_Message):
    """One line of the trainer's standard output, as JSON."""

    progress: Progress
    metrics: dict[str, float] = {}


@dataclass(frozen=True)
class Workdir:
    """Paths in a work folder."""

    root: Path

    @property
    def dataset(self) -> Path:
        """Folder of the dataset's shards."""
        return self.root / "dataset"

    def teacher(self, index: int) -> Path:
        """Folder of one teacher's files."""
        return self.root / "teachers" / str(index)

    @property
    def result(self) -> Path:
        """Folder of the files that are made."""
        return self.root / "result"

    @property
    def checkpoint(self) -> Path:
        """Where a run can go on from."""
        return self.root / "checkpoint.safetensors"

    @property
    def checkpoint_wanted(self) -> Path:
        """Made by the supervisor that cannot wait for the next checkpoint."""
        return self.root / CHECKPOINT_WANTED

    def write_order(self, order: Order) -> None:
        """Writes ``run.json``."""
        (self.root / "run.json").write_text(order.model_dump_json())

    def read_order(self) -> Order:
        """Reads ``run.json``."""
        return _ORDER.validate_json((self.root / "run.json").read_bytes())

    def write_result(self, result: RunResult) -> None:
        """Writes ``result.json``."""
        (self.root / "result.json").write_text(result.model_dump_json())

    def read_result(self) -> RunResult:
        """Reads ``result.json``."""
        return RunResult.model_validate_json((self.root / "result.json").read_bytes())

    def write_error(self, error: JobError) -> None:
        """Writes ``error.json``."""
        (self.root / "error.json").write_text(error.model_dump_json())

    def read_error(self) -> JobError | None:
        """Reads ``error.json``, if the trainer wrote one."""
        path = self.root / "error.json"
        return JobError.model_validate_json(path.read_bytes()) if path.exists() else None
