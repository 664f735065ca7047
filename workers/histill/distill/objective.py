"""The whole training loss: labels, teachers, and the weights between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from histill.distill.losses import distillation_kl, soft_dice_loss, weighted_cross_entropy

if TYPE_CHECKING:
    from torch import Tensor

    from histill.distill.data import Batch


@dataclass(frozen=True)
class TensorBatch:
    """``data.Batch`` as tensors on the training device."""

    image: Tensor
    target: Tensor
    labeled: Tensor
    weight: Tensor
    mixture: Tensor
    distilled: Tensor

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> TensorBatch:
        """Copies a batch to a device; the teachers' weights stay behind."""
        tensors = [torch.from_numpy(array).to(device) for array in batch[:-1]]
        return cls(*tensors)


@dataclass(frozen=True)
class Objective:
    """``supervised * (w CE + Dice) + distillation * tau^2 * w KL(teachers || student)``.

    Attributes:
        supervised_weight: Of the labels' terms.
        distillation_weight: Of the teachers' term; with 0 it is not computed.
        temperature: Softmax temperature of the teachers' term.
    """

    supervised_weight: float = 1.0
    distillation_weight: float = 0.0
    temperature: float = 1.0

    def __call__(self, logits: Tensor, batch: TensorBatch) -> dict[str, Tensor]:
        """Scalars by name: ``loss`` and its unweighted terms.

        Args:
            logits: float [B, C, S, S].
            batch: The crops they came from.
        """
        terms = {
            "ce": weighted_cross_entropy(
                logits, batch.target, weight=batch.weight, mask=batch.labeled
            ),
            "dice_loss": soft_dice_loss(logits, batch.target, mask=batch.labeled),
        }
        loss = self.supervised_weight * (terms["ce"] + terms["dice_loss"])
        if self.distillation_weight and batch.mixture.shape[1]:
            terms["kd"] = distillation_kl(
                logits,
                batch.mixture,
                temperature=self.temperature,
                weight=batch.weight,
                mask=batch.distilled,
            )
            loss = loss + self.distillation_weight * terms["kd"]
        return {"loss": loss, **terms}
