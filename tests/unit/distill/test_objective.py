"""How the terms of the loss add up."""

from __future__ import annotations

import pytest
import torch

from histill.distill.losses import distillation_kl, soft_dice_loss, weighted_cross_entropy
from histill.distill.objective import Objective, TensorBatch


@pytest.fixture
def batch() -> TensorBatch:
    """Two images, the first labelled, both distilled."""
    generator = torch.Generator().manual_seed(0)
    return TensorBatch(
        image=torch.zeros(2, 1, 4, 4),
        target=torch.randint(0, 2, (2, 4, 4), generator=generator),
        labeled=torch.tensor([True, False]),
        weight=torch.rand(2, 4, 4, generator=generator) + 0.5,
        mixture=torch.randn(2, 2, 4, 4, generator=generator).softmax(1),
        distilled=torch.tensor([True, True]),
    )


@pytest.fixture
def logits() -> torch.Tensor:
    """A student's output."""
    return torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def test_the_loss_is_the_weighted_sum_of_its_terms(
    batch: TensorBatch, logits: torch.Tensor
) -> None:
    """Labels' terms and teachers' term enter with their weights."""
    got = Objective(supervised_weight=0.5, distillation_weight=3, temperature=2)(logits, batch)
    ce = weighted_cross_entropy(logits, batch.target, weight=batch.weight, mask=batch.labeled)
    dice = soft_dice_loss(logits, batch.target, mask=batch.labeled)
    kd = distillation_kl(logits, batch.mixture, temperature=2, weight=batch.weight)
    assert got["loss"].item() == pytest.approx((0.5 * (ce + dice) + 3 * kd).item())
    assert set(got) == {"loss", "ce", "dice_loss", "kd"}


def test_without_teachers_there_is_no_distillation_term(
    batch: TensorBatch, logits: torch.Tensor
) -> None:
    """The default objective is labels alone."""
    got = Objective()(logits, batch)
    assert "kd" not in got
    assert got["loss"].item() == pytest.approx((got["ce"] + got["dice_loss"]).item())
