"""Samples that no student ever learns from: the data-free stand-in for validation images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from histill.distill.data_free.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

_TINY = 1e-6
_BATCH = 32


class Held:
    """Held samples of both generators, collected over the whole run.

    Args:
        capacity: Of each generator, in samples.
        seed: Of the choice.
        device: Where the student is.
    """

    def __init__(self, capacity: int, *, seed: int, device: torch.device) -> None:
        self._device = device
        self.banks = {
            kind: Memory(capacity, seed=seed + number)
            for number, kind in enumerate(("hard", "simple"))
        }

    def agreement(self, student: nn.Module) -> dict[str, float]:
        """Of a student with the teachers, in [0, 1], on each bank that holds samples."""
        return {
            kind: agreement(student, bank.images, bank.logits, self._device)
            for kind, bank in self.banks.items()
            if len(bank)
        }

    def criterion(self, student: nn.Module) -> float:
        """What the best student is chosen by: mean agreement over both kinds of samples."""
        return mean(self.agreement(student))

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on with it."""
        return {kind: bank.state() for kind, bank in self.banks.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        for kind, bank in self.banks.items():
            bank.restore(state[kind])


def simple(agreed: Mapping[str, float]) -> float:
    """Agreement on simple samples, or on G1's where it is alone; 0 where nothing is held."""
    return agreed.get("simple", agreed.get("hard", 0.0))


def mean(agreed: Mapping[str, float]) -> float:
    """Agreement over both kinds of samples; 0 where nothing is held."""
    return sum(agreed.values()) / max(1, len(agreed))


@torch.no_grad()
def agreement(student: nn.Module, images: Tensor, logits: Tensor, device: torch.device) -> float:
    """How far a student gives what the teachers gave.

    Args:
        student: Put into eval mode.
        images: uint8 [N, C, H, W].
        logits: The teachers', float16 [N, C] or [N, C, H, W].
        device: Where the student is.

    Returns:
        For classification the share of equal classes; for segmentation the Dice of the two
        class maps, counted over all samples, mean of the foreground classes that occur in
        either. In [0, 1].
    """
    student.eval()
    parts = zip(images.split(_BATCH), logits.split(_BATCH), strict=True)
    same: Any = 0.0
    sizes: Any = 0.0  # numbers for classification, else one a class
    for image, said in parts:
        ours, theirs = student(image.to(device).float()).argmax(1), said.to(device).argmax(1)
        if ours.ndim == 1:
            same += float((ours == theirs).sum())
            sizes += len(ours)
            continue
        classes = torch.arange(1, said.shape[1], device=device)[:, None]
        one, other = ours.flatten() == classes, theirs.flatten() == classes
        same = same + 2 * (one & other).sum(dim=1).cpu()
        sizes = sizes + (one.sum(dim=1) + other.sum(dim=1)).cpu()
    if isinstance(sizes, float):
        return float(same / max(1.0, sizes))
    present = sizes > 0
    return float((same[present] / sizes[present]).mean()) if present.any() else 1.0
