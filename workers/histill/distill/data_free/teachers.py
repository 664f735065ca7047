"""What the teachers of a data-free job say about samples, together.

Without labels each counts by its agreement with the others, its confidence and its
recorded Dice, as in multi-teacher distillation; here within the graph, so that
generators learn from all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from histill.core.manifests import STATISTICS
from histill.core.specs import TeacherWeighting
from histill.distill.data_free.statistics import WatchedTeacher
from histill.distill.programs import load_teacher
from histill.distill.reasons import teacher_mismatch
from histill.distill.scores import AGREEMENT, CONFIDENCE, PRIOR, prior_dice

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from histill.core.errors import WorkFailedError
    from histill.core.manifests import ModelManifest

log = structlog.get_logger()

_WEIGHTING = TeacherWeighting()  # as in multi-teacher distillation
_TINY = 1e-6


class Heard(NamedTuple):
    """What the teachers say about a batch.

    Attributes:
        logits: float [N, C] or [N, C, H, W].
        distance: From their layers' statistics, scalar; ``None`` without gradients or
            statistics.
        weights: Of each teacher for each sample, float [N, K].
    """

    logits: Tensor
    distance: Tensor | None
    weights: Tensor


@dataclass(frozen=True)
class Council:
    """The teachers.

    Attributes:
        teachers: Each with its statistics.
        temperatures: Their logits are divided by these.
        priors: Recorded Dice, in [0, 1].
    """

    teachers: Sequence[WatchedTeacher]
    temperatures: Sequence[float]
    priors: Sequence[float]

    @property
    def layers(self) -> int:
        """Layers with statistics, over all teachers."""
        return sum(teacher.layers for teacher in self.teachers)

    def hear(self, images: Tensor) -> Heard:
        """Asks all of them about float images [N, C, H, W] in units of a byte."""
        answers = [teacher(images) for teacher in self.teachers]
        known = [distance for _, distance in answers if distance is not None]
        distance = torch.stack(known).mean() if known else None
        if len(answers) == 1:
            return Heard(answers[0][0], distance, images.new_ones((len(images), 1)))
        probabilities = torch.stack(
            [
                (logits / temperature).softmax(dim=1)
                for (logits, _), temperature in zip(answers, self.temperatures, strict=True)
            ]
        )
        weights = self._weights(probabilities.detach())
        shaped = weights.T.reshape(*weights.T.shape, *[1] * (probabilities.ndim - 2))
        mixture = (probabilities * shaped).sum(dim=0)
        return Heard((mixture + _TINY).log(), distance, weights)

    def _weights(self, probabilities: Tensor) -> Tensor:
        """Float [N, K] from [K, N, C, ...]."""
        count, classes = len(probabilities), probabilities.shape[2]
        others = (probabilities.sum(dim=0, keepdim=True) - probabilities) / (count - 1)
        same = (probabilities * others).sum(dim=2)
        norm = probabilities.square().sum(dim=2).sqrt() * others.square().sum(dim=2).sqrt()
        agreement = _per_sample(same / (norm + _TINY))
        sure = (probabilities.amax(dim=2) - 1 / classes) * classes / (classes - 1)
        score = AGREEMENT * agreement + CONFIDENCE * _per_sample(sure)
        score = score + PRIOR * probabilities.new_tensor(list(self.priors))[:, None]
        weights = (score / _WEIGHTING.temperature).softmax(dim=0)
        weights = torch.where(weights < _WEIGHTING.min_weight, 0.0, weights)
        return (weights / weights.sum(dim=0)).T


def _per_sample(values: Tensor) -> Tensor:
    """Means [K, N] of [K, N] or [K, N, H, W]."""
    return values.reshape(*values.shape[:2], -1).mean(dim=2)


def load_council(
    folders: Sequence[Path], manifests: Sequence[ModelManifest], device: torch.device
) -> Council:
    """The teachers from their files.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; a file cannot be read or does not fit its manifest.
    """
    teachers = []
    for folder, manifest in zip(folders, manifests, strict=True):
        net = load_teacher(folder, manifest, device).net
        recorded = recorded_statistics(folder / STATISTICS, manifest.reference)
        recorded = {name: (a.to(device), b.to(device)) for name, (a, b) in recorded.items()}
        try:
            teachers.append(WatchedTeacher(net, recorded))
        except ValueError as exc:
            raise _bad_statistics(manifest.reference, str(exc)) from exc
        if not teachers[-1].layers:
            log.warning(
                "no_statistics",
                teacher=manifest.reference,
                text="none of its layers' statistics can be read or were recorded: samples will be "
                "less like its images, and the student worse",
            )
    return Council(
        teachers,
        [manifest.metrics.get("temperature", 1.0) for manifest in manifests],
        prior_dice(manifests),
    )


def recorded_statistics(path: Path, reference: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each layer in a ``statistics.safetensors``; none without the file.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; it cannot be read, or what it holds are none.
    """
    if not path.exists():
        return {}
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as exc:
        raise _bad_statistics(reference, str(exc)) from exc
    layers = {name.rpartition(".")[0] for name in tensors}
    found = {}
    for layer in sorted(layers):
        mean, variance = tensors.get(f"{layer}.mean"), tensors.get(f"{layer}.var")
        if mean is None or variance is None:
            raise _bad_statistics(reference, f"{layer} lacks its mean or its var")
        if mean.ndim != 1 or mean.shape != variance.shape:
            raise _bad_statistics(reference, f"mean and var of {layer} are no equal vectors")
        if not (mean.isfinite().all() and variance.isfinite().all() and (variance >= 0).all()):
            raise _bad_statistics(reference, f"{layer} holds what is no mean or variance")
        found[layer] = mean.float(), variance.float()
    return found


def _bad_statistics(reference: str, why: str) -> WorkFailedError:
    return teacher_mismatch(
        f"teacher {reference}: {STATISTICS} is not usable: {why}",
        hint="Record LAYER.mean and LAYER.var of each norm's input channels, or leave it out.",
    )
