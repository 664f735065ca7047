"""The folder that supervisor and trainer share: the order goes in, the result comes out.

The trainer has no credentials and opens no socket of ours; everything passes
through this folder and its standard output::

    run.json                       the order (RunOrder)
    dataset/shard-*.tar            the dataset's shards
    teachers/{i}/weights.safetensors
    result/                        weights.safetensors, model.onnx, card.md, report.html
    result.json                    what was made (RunResult), written last
    error.json                     why it failed (JobError)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - the dataclass holds one
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from histill.core.jobs import JobError, Progress
from histill.core.manifests import DatasetManifest, ModelManifest, ModelRole, Normalization
from histill.core.specs import MultiTeacherSpec, SupervisedSpec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from histill.core.manifests import ArtifactFile


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class RunOrder(_Message):
    """What the trainer is to do.

    Attributes:
        teacher_cache: Folder where teachers' predictions outlast the run; empty for none.
        teacher_cache_bytes: What it may hold at the end of a run.
    """

    job: str
    attempt: int
    spec: SupervisedSpec | MultiTeacherSpec
    dataset: DatasetManifest
    teachers: tuple[ModelManifest, ...] = ()
    teacher_cache: str = ""
    teacher_cache_bytes: int = 0


class RunResult(_Message):
    """What the trainer made; the supervisor adds name, version, lineage and files."""

    role: ModelRole
    channels: int
    classes: tuple[str, ...]
    normalization: Normalization
    parameters: int
    metrics: dict[str, float]


def made_manifest(
    order: RunOrder, result: RunResult, files: Iterable[ArtifactFile], *, create_time: datetime
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
        teachers=tuple(teacher.reference for teacher in order.teachers),
        dataset=order.dataset.reference,
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

    def write_order(self, order: RunOrder) -> None:
        """Writes ``run.json``."""
        (self.root / "run.json").write_text(order.model_dump_json())

    def read_order(self) -> RunOrder:
        """Reads ``run.json``."""
        return RunOrder.model_validate_json((self.root / "run.json").read_bytes())

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
