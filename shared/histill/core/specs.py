"""What a job is to do, with the default and range of every number.

These models are the one place where defaults and ranges live. The comments in
``protos/histill/api/distillation/v1/spec.proto`` repeat them for API users, and a
test holds the two against each other.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from histill.core.names import NAME_PATTERN, REFERENCE_PATTERN

ModelName = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]
ModelReference = Annotated[str, StringConstraints(pattern=f"^{REFERENCE_PATTERN}$")]
DatasetReference = Annotated[
    str, StringConstraints(pattern=rf"^{NAME_PATTERN}(@[1-9][0-9]{{0,8}})?$")
]

Task = Literal["segmentation", "classification"]
LENET_SIDE = 32  # of the images that LeNet-5 takes
SAMPLE_STRIDE = 8  # generators double the sides of their first layer three times
MAX_SAMPLE_SIDE = 1024


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NetworkSpec(_Spec):
    """A network of the closed registry (``histill.distill.nets``)."""

    architecture: Literal["unet", "basic_unet", "attention_unet", "segresnet", "lenet5"] = "unet"
    width: int = Field(default=8, ge=3, le=128)
    depth: int = Field(default=4, ge=2, le=6)
    norm: Literal["batch", "instance"] = "batch"

    @model_validator(mode="after")
    def _lenet_has_batch_norms(self) -> Self:
        if self.architecture == "lenet5" and self.norm != "batch":
            raise ValueError(f"norm {self.norm} is not for lenet5, which has batch norms")
        return self

    @property
    def task(self) -> Task:
        """What the family does: ``lenet5`` gives one class an image, all others one a pixel."""
        return "classification" if self.architecture == "lenet5" else "segmentation"

    @property
    def stride(self) -> int:
        """Input sides must be multiples of this many pixels; those of ``lenet5`` equal it."""
        return LENET_SIDE if self.architecture == "lenet5" else int(2 ** (self.depth - 1))


class TrainingSpec(_Spec):
    """How a network is trained."""

    steps: int = Field(default=300, ge=1, le=1_000_000)
    batch_size: int = Field(default=8, ge=1, le=512)
    crop_size: int = Field(default=128, ge=16, le=2048)
    learning_rate: float = Field(default=3e-3, ge=1e-6, le=1.0)
    weight_decay: float = Field(default=1e-4, ge=0.0, le=1.0)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    augment: bool = True
    labeled_images: int = Field(default=0, ge=0, le=1_000_000)
    accumulate: int = Field(default=1, ge=1, le=64)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = False
    ema_decay: float = Field(default=0.0, ge=0.0, le=0.9999)
    validations: int = Field(default=3, ge=0, le=1000)
    patience: int = Field(default=0, ge=0, le=1000)

    @model_validator(mode="after")
    def _patience_needs_validations(self) -> Self:
        if self.patience and not self.validations:
            raise ValueError("patience needs validations; set training.validations")
        return self


class Ramp(_Spec):
    """Factor of a loss term over the run: ``start``, then a line to ``end``."""

    start: float = Field(default=1.0, ge=0.0, le=100.0)
    end: float = Field(default=1.0, ge=0.0, le=100.0)
    after: float = Field(default=0.0, ge=0.0, le=1.0)
    until: float = Field(default=1.0, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.until < self.after:
            raise ValueError("until must not be less than after")
        return self

    def at(self, progress: float) -> float:
        """The factor at a share of the run in [0, 1]."""
        span = self.until - self.after
        done = (progress - self.after) / span if span else float(progress >= self.until)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, done))


class BoundaryWeighting(_Spec):
    """Weight of each pixel by its distance to the nearest class boundary."""

    mode: Literal["none", "distance", "band"] = "distance"
    beta: float = Field(default=4.0, ge=0.0, le=100.0)
    sigma: float = Field(default=1.5, ge=0.1, le=100.0)
    radius: float = Field(default=2.0, ge=0.5, le=100.0)
    unit: Literal["px", "mm"] = "px"
    fuzzy: float = Field(default=0.0, ge=-1.0, le=10.0)


class TeacherWeighting(_Spec):
    """Weight of each teacher by how well it does."""

    grain: Literal["uniform", "image", "class", "region", "class_region", "pixel", "ca_mkd"] = (
        "image"
    )
    score: Literal["dice", "loss"] = "dice"
    temperature: float = Field(default=0.03, ge=1e-3, le=100.0)
    min_weight: float = Field(default=0.05, ge=0.0, le=0.5)
    band: float = Field(default=2.0, ge=0.5, le=100.0)
    unlabeled: Literal["transfer", "estimate", "uniform"] = "transfer"


class ClassMap(_Spec):
    """Which class of the dataset each class of a teacher is, by name."""

    classes: dict[str, str] = Field(min_length=1)


class SupervisedSpec(_Spec):
    """Train one network from labels: a teacher, or a baseline student."""

    dataset: DatasetReference
    output_model: ModelName
    network: NetworkSpec = NetworkSpec()
    training: TrainingSpec = TrainingSpec()
    boundary: BoundaryWeighting = BoundaryWeighting()


class MultiTeacherSpec(_Spec):
    """Distil several teachers into one student."""

    dataset: DatasetReference
    output_model: ModelName
    teachers: tuple[ModelReference, ...] = Field(min_length=1, max_length=8)
    student: NetworkSpec = NetworkSpec()
    training: TrainingSpec = TrainingSpec()
    boundary: BoundaryWeighting = BoundaryWeighting()
    teacher_weighting: TeacherWeighting = TeacherWeighting()
    temperature: float = Field(default=1.0, ge=0.5, le=20.0)
    supervised_weight: float = Field(default=1.0, ge=0.0, le=100.0)
    distillation_weight: float = Field(default=3.0, ge=0.0, le=100.0)
    overlap_weight: float = Field(default=3.0, ge=0.0, le=100.0)
    edge_weight: float = Field(default=0.0, ge=0.0, le=100.0)
    affinity_weight: float = Field(default=0.0, ge=0.0, le=100.0)
    supervised_ramp: Ramp = Ramp()
    distillation_ramp: Ramp = Ramp()
    edge_ramp: Ramp = Ramp()
    affinity_ramp: Ramp = Ramp()
    labeled_share: float = Field(default=0.5, ge=0.0, le=1.0)
    teacher_views: int = Field(default=1, ge=1, le=8)
    class_maps: dict[ModelReference, ClassMap] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := sorted(set(self.class_maps) - set(self.teachers)):
            raise ValueError(f"class_maps names {', '.join(unknown)}, which is no teacher here")
        if len(set(self.teachers)) != len(self.teachers):
            raise ValueError("teachers names one twice; it would count double")
        if not (self.supervised_weight or self.distillation_weight or self.overlap_weight):
            raise ValueError(
                "supervised_weight, distillation_weight and overlap_weight are all 0: there is "
                "nothing to learn"
            )
        return self

    @property
    def network(self) -> NetworkSpec:
        """The network that is trained: the student."""
        return self.student


class DataFreeTraining(_Spec):
    """How generators and student are trained."""

    steps: int = Field(default=1500, ge=1, le=10_000_000)
    student_steps: int = Field(default=5, ge=1, le=100)
    batch_size: int = Field(default=32, ge=4, le=4096)
    image_size: int = Field(default=0, ge=0, le=MAX_SAMPLE_SIDE)
    learning_rate: float = Field(default=3e-3, ge=1e-6, le=1.0)
    weight_decay: float = Field(default=1e-4, ge=0.0, le=1.0)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    overlap_weight: float = Field(default=1.0, ge=0.0, le=100.0)
    ema_decay: float = Field(default=0.0, ge=0.0, le=0.9999)
    rollbacks: int = Field(default=3, ge=0, le=10)


class GeneratorsSpec(_Spec):
    """G1, which makes difficult samples, and G2, which makes simple ones."""

    mode: Literal["average", "separate", "hard", "simple"] = "average"
    decay: float = Field(default=0.95, ge=0.0, le=0.9999)
    width: int = Field(default=16, ge=4, le=128)
    noise: int = Field(default=64, ge=4, le=1024)
    learning_rate: float = Field(default=2e-3, ge=1e-6, le=1.0)
    adversarial_weight: float = Field(default=1.0, ge=0.0, le=100.0)
    adversary: Literal["log", "plain"] = "log"
    statistics_weight: float = Field(default=1.0, ge=0.0, le=100.0)
    balance_weight: float = Field(default=1.0, ge=0.0, le=100.0)
    confidence_weight: float = Field(default=1.0, ge=0.0, le=100.0)
    warmup: float = Field(default=0.05, ge=0.0, le=1.0)
    agreed_only: bool = False


class SampleSharing(_Spec):
    """What the student's batches consist of."""

    hard_share: float = Field(default=0.5, ge=0.0, le=1.0)
    rule: Literal["fixed", "rising", "adaptive"] = "adaptive"
    memory_share: float = Field(default=0.5, ge=0.0, le=0.9)
    memory: int = Field(default=4096, ge=0, le=1_000_000)
    blending: float = Field(default=1.0, ge=0.0, le=1.0)


class DataFreeSpec(_Spec):
    """Distil teachers into a student without any data."""

    output_model: ModelName
    teachers: tuple[ModelReference, ...] = Field(min_length=1, max_length=8)
    student: NetworkSpec = NetworkSpec()
    training: DataFreeTraining = DataFreeTraining()
    generators: GeneratorsSpec = GeneratorsSpec()
    samples: SampleSharing = SampleSharing()
    class_shares: dict[str, Annotated[float, Field(ge=1e-4, le=0.95)]] = {}
    keep_generators: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.teachers)) != len(self.teachers):
            raise ValueError("teachers names one twice; it would count double")
        if 0 < self.samples.memory < self.training.batch_size:
            raise ValueError(
                f"samples.memory must be 0 or at least training.batch_size, which is "
                f"{self.training.batch_size}; it is {self.samples.memory}"
            )
        side, whole = self.training.image_size, math.lcm(SAMPLE_STRIDE, self.student.stride)
        if self.student.task == "classification":
            if side and side != self.student.stride:
                raise ValueError(
                    f"training.image_size must be {self.student.stride} for a student that is "
                    f"{self.student.architecture}; it is {side}"
                )
            if self.class_shares:
                raise ValueError("class_shares are shares of pixels; the student classifies images")
        elif side % whole:
            raise ValueError(
                f"training.image_size must be a multiple of {whole}, of {SAMPLE_STRIDE} and of "
                f"the student's stride; it is {side}"
            )
        if sum(self.class_shares.values()) >= 1:
            raise ValueError("class_shares sum to 1 or more; nothing is left for the background")
        return self

    @property
    def network(self) -> NetworkSpec:
        """The network that is trained: the student."""
        return self.student


JobSpec = SupervisedSpec | MultiTeacherSpec | DataFreeSpec
