"""Manifests: what a stored model or dataset is, and which files it consists of.

A manifest is written last; without it the version does not exist.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from histill.core.specs import NetworkSpec, Task

WEIGHTS = "weights.safetensors"
ONNX = "model.onnx"
INT8 = "model.int8.onnx"
CARD = "card.md"
TORCHSCRIPT = "model.ts"
STATISTICS = "statistics.safetensors"
GENERATORS = "generators.safetensors"
SAMPLES = "samples.npz"


class ModelRole(StrEnum):
    """What a model may be used for."""

    TEACHER = "TEACHER"
    STUDENT = "STUDENT"


class LabelKind(StrEnum):
    """What the values of a label image mean.

    SEMANTIC: the class index. INSTANCE: 0 is background, 1..N number objects.
    """

    SEMANTIC = "SEMANTIC"
    INSTANCE = "INSTANCE"


class _Manifest(BaseModel):
    # What a later version adds is passed over: replicas of two versions serve at a time.
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class ArtifactFile(_Manifest):
    """One file: path within the version, size in bytes, SHA-256 in hexadecimal."""

    path: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Normalization(_Manifest):
    """Inputs are scaled from uint8 to [0, 1], then ``(x - mean) / std`` a channel.

    Attributes:
        scaling: Before that: ``constant`` nothing; ``image_range`` each image to [0, 1]
            by its least and greatest value; ``image_zscore`` each image to mean 0 and
            standard deviation 1 a channel.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scaling: Literal["constant", "image_range", "image_zscore"] = "constant"


class DifferentialPrivacy(_Manifest):
    """The guarantee that a model was trained under.

    Attributes:
        epsilon: Above 0.
        delta: In [0, 1).

    Source: Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014.
    """

    epsilon: float = Field(gt=0, le=1e6)
    delta: float = Field(default=0.0, ge=0, lt=1)


class Appearance(_Manifest):
    """What training images look like, in the numbers of ``histill.ml.appearance.look``.

    Attributes:
        mean: Over the images, one a number.
        std: Over the images, one a number, above 0.
        farthest: Distance from the mean of the validation image that is farthest from it.
    """

    mean: tuple[float, ...] = Field(min_length=6, max_length=6 * 64)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=6, max_length=6 * 64)
    farthest: float = Field(gt=0)


# Among the metrics of a student: Dice that it loses by computing in bfloat16, and in 8-bit
# integers. Of one made without data it is what its own mask changes on generated samples.
BFLOAT16_LOSS = "dice_lost_in_bfloat16"
INT8_LOSS = "dice_lost_in_int8"
# What it may lose of it and still be run so.
MOST_LOST = 0.003


class ModelManifest(_Manifest):
    """A version of a model.

    Attributes:
        network: What ``weights.safetensors`` belong to; ``None`` for a TorchScript
            program, which is stored as ``model.ts``.
        multiple_of: Sides of the input of a TorchScript program are multiples of it.
        activation: What turns its output into probabilities. ``softmax``: one logit a
            class. ``sigmoid``: one logit a foreground class, against 0 for background.
        task: ``segmentation`` gives one class a pixel, ``classification`` one an image.
        classes: Names; the index is the value in a mask, 0 the background. Those of a
            classification model are all alike.
        image_size: Side of the square images or crops that it was trained on, in pixels; 0
            when not known.
        class_shares: Share of foreground classes in the pixels of its training images, by
            name; what is not to be told is left out.
        privacy: What its training guarantees, if anything.
        appearance: What its training images look like, where that is known.
        metrics: Measures on validation images, e.g. ``dice`` in [0, 1].
        teachers: References of the teachers it was distilled from.
        dataset: Reference of the dataset it was trained on, or empty.
        job: ``jobs/{id}`` that made it, or empty.
    """

    format: Literal[1] = 1
    name: str
    version: int
    role: ModelRole
    network: NetworkSpec | None
    multiple_of: int = Field(default=1, ge=1, le=1024)
    activation: Literal["softmax", "sigmoid"] = "softmax"
    task: Task = "segmentation"
    channels: int = Field(ge=1, le=64)
    classes: tuple[str, ...] = Field(min_length=2, max_length=256)
    image_size: int = Field(default=0, ge=0, le=4096)
    normalization: Normalization
    class_shares: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    privacy: DifferentialPrivacy | None = None
    appearance: Appearance | None = None
    parameters: int = 0
    metrics: dict[str, float] = {}
    teachers: tuple[str, ...] = ()
    dataset: str = ""
    job: str = ""
    create_time: datetime
    files: tuple[ArtifactFile, ...]

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def stride(self) -> int:
        """Input sides must be multiples of this many pixels."""
        return self.network.stride if self.network else self.multiple_of

    @property
    def servable(self) -> bool:
        """The inference service can serve it."""
        return self.task == "segmentation" and any(f.path == ONNX for f in self.files)


class DatasetManifest(_Manifest):
    """A version of a dataset.

    Shards are tar files of ``{split}/{id}.image.png`` (8-bit, 1, 3 or 4 channels) and
    ``{split}/{id}.label.png`` (8- or 16-bit, one channel) pairs.

    Attributes:
        classes: Names; index 0 is the background.
        splits: Images in each split; ``train`` and ``val`` at least.
        pixel_size_mm: Side of a pixel in millimetres; 0 when not known.
        description: Source, licence, and how the labels were made.
    """

    format: Literal[1] = 1
    name: str
    version: int
    classes: tuple[str, ...] = Field(min_length=2, max_length=256)
    channels: int = Field(ge=1, le=64)
    label_kind: LabelKind
    splits: dict[str, int]
    pixel_size_mm: float = Field(default=0.0, ge=0.0, le=100.0)
    description: str = ""
    create_time: datetime
    files: tuple[ArtifactFile, ...]

    @property
    def reference(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"
