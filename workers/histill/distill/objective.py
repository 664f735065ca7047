"""The whole training loss: labels, teachers, and the weights between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from histill.core.specs import Ramp
from histill.distill.losses import (
    affinity_loss,
    alone,
    distillation_kl,
    edge_loss,
    one_hot,
    overlap_loss,
    soft_dice_loss,
    weighted_cross_entropy,
)

if TYPE_CHECKING:
    from torch import Tensor

    from histill.core.specs import MultiTeacherSpec
    from histill.distill.data import Batch
    from histill.distill.losses import Total

_FLAT = Ramp()


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
    """``supervised * (w CE + Dice) + distillation * tau^2 * w KL + overlap * O + ...``.

    The teachers' terms are computed only with a weight above 0. Each weight follows its
    ramp over the run.

    Attributes:
        supervised_weight: Of the labels' terms.
        distillation_weight: Of the teachers' term.
        overlap_weight: Of the overlap with the teachers; follows ``distillation_ramp``.
        edge_weight: Of the edges' term, with labels where there are any, else teachers.
        affinity_weight: Of the regions' term.
        temperature: Softmax temperature of the teachers' term.
        supervised_ramp: Factor of ``supervised_weight``.
        distillation_ramp: Factor of ``distillation_weight``.
        edge_ramp: Factor of ``edge_weight``.
        affinity_ramp: Factor of ``affinity_weight``.
    """

    supervised_weight: float = 1.0
    distillation_weight: float = 0.0
    overlap_weight: float = 0.0
    edge_weight: float = 0.0
    affinity_weight: float = 0.0
    temperature: float = 1.0
    supervised_ramp: Ramp = _FLAT
    distillation_ramp: Ramp = _FLAT
    edge_ramp: Ramp = _FLAT
    affinity_ramp: Ramp = _FLAT

    @classmethod
    def of(cls, spec: MultiTeacherSpec) -> Objective:
        """The objective that a spec describes."""
        return cls(**{name: getattr(spec, name) for name in cls.__dataclass_fields__})

    def __call__(
        self, logits: Tensor, batch: TensorBatch, *, progress: float = 0.0, total: Total = alone
    ) -> dict[str, Tensor]:
        """Scalars by name: ``loss`` and its unweighted terms.

        Args:
            logits: float [B, C, S, S].
            batch: The crops they came from.
            progress: Share of the run that is done, in [0, 1].
            total: Adds up over processes.
        """
        logits = logits.float()  # whatever precision the network computed in
        terms = {
            "ce": weighted_cross_entropy(
                logits, batch.target, weight=batch.weight, mask=batch.labeled, total=total
            ),
            "dice_loss": soft_dice_loss(logits, batch.target, mask=batch.labeled, total=total),
        }
        supervised = self.supervised_weight * self.supervised_ramp.at(progress)
        distilled = self.distillation_ramp.at(progress)
        weights = {
            "kd": self.distillation_weight * distilled,
            "overlap": self.overlap_weight * distilled,
            "edge": self.edge_weight * self.edge_ramp.at(progress),
            "affinity": self.affinity_weight * self.affinity_ramp.at(progress),
        }
        further = self._taught(logits, batch, total) if batch.mixture.shape[1] else {}
        if self.edge_weight:
            further["edge"] = self._edge(logits, batch, total)
        loss = supervised * (terms["ce"] + terms["dice_loss"])
        for name, term in further.items():
            loss = loss + weights[name] * term
        return {"loss": loss, **terms, **further}

    def _taught(self, logits: Tensor, batch: TensorBatch, total: Total) -> dict[str, Tensor]:
        """The terms that compare with the mixture alone."""
        terms = {}
        if self.distillation_weight:
            terms["kd"] = distillation_kl(
                logits,
                batch.mixture,
                temperature=self.temperature,
                weight=batch.weight,
                mask=batch.distilled,
                total=total,
            )
        soft = (logits / self.temperature).softmax(dim=1)
        for name, weight, loss in (
            ("overlap", self.overlap_weight, overlap_loss),
            ("affinity", self.affinity_weight, affinity_loss),
        ):
            if weight:
                terms[name] = loss(soft, batch.mixture, mask=batch.distilled, total=total)
        return terms

    def _edge(self, logits: Tensor, batch: TensorBatch, total: Total) -> Tensor:
        reference, known = one_hot(batch.target, logits), batch.labeled
        if batch.mixture.shape[1]:
            rows = known[:, None, None, None]
            reference = torch.where(rows, reference, batch.mixture)
            known = known | batch.distilled
        # Labels are sharp, a mixture is as soft as its temperature.
        heat = torch.where(batch.labeled, 1.0, self.temperature)[:, None, None, None]
        return edge_loss((logits / heat).softmax(dim=1), reference, mask=known, total=total)
