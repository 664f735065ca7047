"""What data-free students are measured on: digits, and nuclei of two stains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional

import digits
from histill.core.manifests import WEIGHTS
from histill.core.specs import (
    BoundaryWeighting,
    MultiTeacherSpec,
    NetworkSpec,
    SupervisedSpec,
    TeacherWeighting,
    TrainingSpec,
)
from histill.distill.predict import Predictor
from histill.distill.programs import read_teacher
from histill.ml.metrics import score_image, summarize
from nuclei import tiles, write_dataset
from trainings import Trained, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from histill.core.manifests import DatasetManifest, ModelManifest

NUCLEUS = ("background", "nucleus")
CPU = torch.device("cpu")
_TEACHER = NetworkSpec(architecture="unet", width=16, depth=4)  # 163,160 parameters
_STUDENT = NetworkSpec(architecture="unet", width=7, depth=4)  # 31,697


class Score(NamedTuple):
    """What a network is worth on images that nothing was trained on.

    Attributes:
        value: Accuracy, or Dice over all pixels, in [0, 1].
        simple: The same on the half of the images with the teacher's lowest loss.
        nsd: Surface Dice at 2 pixels; NaN for classification.
    """

    value: float
    simple: float
    nsd: float


class Task(Protocol):
    """One teacher with its student, and how both are trained and measured."""

    @property
    def name(self) -> str:
        """Of the task."""

    @property
    def changes(self) -> dict[str, Any]:
        """Fields of a data-free spec that fit it."""

    @property
    def student(self) -> NetworkSpec:
        """The student's network."""

    def teacher(self, root: Path) -> tuple[ModelManifest, Path, nn.Module]:
        """Trains the teacher once; its manifest, the folder of its files, and the network."""

    def on_data(self, root: Path, *, steps: int, seed: int, distilled: bool) -> nn.Module:
        """A student of as many steps on the real data, from labels or by plain distillation."""

    def score(self, net: nn.Module, teacher: nn.Module) -> Score:
        """Of a network."""


@dataclass(frozen=True)
class Digits:
    """MNIST, LeNet-5 to half LeNet-5, as in the literature."""

    changes: dict[str, Any]
    name: str = "mnist"
    student: NetworkSpec = digits.STUDENT

    def teacher(self, root: Path) -> tuple[ModelManifest, Path, nn.Module]:
        """LeNet-5 after six epochs."""
        folder = root / "mnist-teacher"
        if not (folder / WEIGHTS).exists():
            steps = digits.TEACHER_EPOCHS * 60_000 // digits.BATCH
            net = digits.trained(digits.TEACHER, steps, seed=0)
            digits.store(folder, net)
        net = digits.load(folder, digits.TEACHER)
        return digits.store(folder, net), folder, net

    def on_data(self, root: Path, *, steps: int, seed: int, distilled: bool) -> nn.Module:
        """Half LeNet-5 from the real training images."""
        teacher = digits.load(root / "mnist-teacher", digits.TEACHER) if distilled else None
        batch = self.changes["training"]["batch_size"]
        return digits.trained(self.student, steps, seed=seed, batch=batch, teacher=teacher)

    @cached_property
    def _test(self) -> digits.Digits:
        return digits.digits("test")

    def score(self, net: nn.Module, teacher: nn.Module) -> Score:
        """Accuracy on the 10,000 test images."""
        test = self._test
        right = (digits.logits(net, test.images).argmax(dim=1) == test.labels).float()
        simple = _simple_half(self.name, lambda: self._losses(teacher))
        return Score(float(right.mean()), float(right[simple].mean()), float("nan"))

    def _losses(self, teacher: nn.Module) -> Sequence[float]:
        said = digits.logits(teacher, self._test.images)
        return functional.cross_entropy(said, self._test.labels, reduction="none").tolist()


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one stain, a U-Net of width 16 to one of width 7: a fifth of its parameters."""

    domain: str
    changes: dict[str, Any]
    network: NetworkSpec = _TEACHER
    student: NetworkSpec = _STUDENT

    @property
    def name(self) -> str:
        """Of the task."""
        return f"nuclei_{self.domain}"

    def _data(self, root: Path) -> tuple[DatasetManifest, Path]:
        shards = root / self.name
        return write_dataset(shards, (self.domain,), classes=NUCLEUS), shards

    def _taught(self, root: Path) -> Trained:
        spec = SupervisedSpec(
            dataset="nuclei",
            output_model=f"{self.domain}-teacher",
            network=self.network,
            training=TrainingSpec(steps=600, learning_rate=5e-3, validations=0),
        )
        dataset, shards = self._data(root)
        return train(root / f"{self.name}-teacher", spec, dataset, shards=shards)

    def teacher(self, root: Path) -> tuple[ModelManifest, Path, nn.Module]:
        """A U-Net from all labels."""
        made = self._taught(root)
        return made.manifest, made.folder, _network(made)

    def on_data(self, root: Path, *, steps: int, seed: int, distilled: bool) -> nn.Module:
        """The student from all labels, or by plain distillation on all images."""
        dataset, shards = self._data(root)
        shared: dict[str, Any] = {
            "dataset": "nuclei",
            "output_model": "student",
            # As many pixels a step as without data: crops of twice the side.
            "training": TrainingSpec(
                steps=steps,
                batch_size=max(1, self.changes["training"]["batch_size"] // 4),
                learning_rate=5e-3,
                seed=seed,
                validations=0,
            ),
            "boundary": BoundaryWeighting(mode="none"),
        }
        folder = root / f"{self.name}-{'kd' if distilled else 'labels'}-{seed}"
        if not distilled:
            labels = SupervisedSpec(network=self.student, **shared)
            return _network(train(folder, labels, dataset, shards=shards))
        teacher = self._taught(root)
        spec = MultiTeacherSpec(
            student=self.student,
            teachers=(teacher.manifest.reference,),
            teacher_weighting=TeacherWeighting(grain="uniform"),
            supervised_weight=0.0,
            overlap_weight=0.0,
            **shared,
        )
        return _network(train(folder, spec, dataset, shards=shards, teachers=[teacher]))

    def score(self, net: nn.Module, teacher: nn.Module) -> Score:
        """Dice and surface Dice on the validation tiles, counted over all their pixels."""
        chosen = tiles("val", (self.domain,))
        truths = [np.minimum(tile.objects(), 1).astype(np.uint8) for tile in chosen]
        images = [tile.pixels() for tile in chosen]
        predict = Predictor(net, self.student.stride, CPU).logits
        masks = [predict(image).argmax(axis=0).astype(np.uint8) for image in images]
        rows = [score_image(m, t, classes=2) for m, t in zip(masks, truths, strict=True)]
        scores = summarize(rows)

        def losses() -> list[float]:
            ask = Predictor(teacher, self.network.stride, CPU).logits
            pairs = zip(images, truths, strict=True)
            return [_cross_entropy(ask(image), truth) for image, truth in pairs]

        simple = [rows[index] for index in _simple_half(self.name, losses)]
        return Score(scores.dice, summarize(simple).dice, scores.nsd2)


_HALVES: dict[str, list[int]] = {}


def _simple_half(name: str, losses: Callable[[], Sequence[float]]) -> list[int]:
    """Indices of the test images with the teacher's lowest losses; worked out once a task."""
    if name not in _HALVES:
        found = np.argsort(losses())
        _HALVES[name] = [int(index) for index in found[: len(found) // 2]]
    return _HALVES[name]


def _cross_entropy(logits: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8]) -> float:
    said, target = torch.from_numpy(logits)[None], torch.from_numpy(truth).long()[None]
    return float(functional.cross_entropy(said, target))


def _network(made: Trained) -> nn.Module:
    return read_teacher(made.folder, made.manifest, CPU)


_NUCLEI = {
    "training": {"steps": 300, "batch_size": 16, "learning_rate": 5e-3, "ema_decay": 0.99},
    "generators": {"width": 8},
}
TASKS: dict[str, Callable[[], Task]] = {
    "mnist": lambda: Digits(
        {
            "training": {
                "steps": 3000,
                "batch_size": 64,
                "learning_rate": 0.01,
                "ema_decay": 0.99,
            },
            "generators": {
                "width": 8,
                "learning_rate": 4e-3,
                "statistics_weight": 3.0,
                "decay": 0.99,
            },
            "samples": {"memory_share": 0.75, "memory": 32768},
        }
    ),
    "nuclei_fluo": lambda: Nuclei("fluo", _NUCLEI),
    "nuclei_he": lambda: Nuclei("he", _NUCLEI),
}
