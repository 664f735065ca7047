"""How the terms of the loss add up."""

from __future__ import annotations

import pytest
import torch

from histill.core.specs import MultiTeacherSpec, Ramp
from histill.distill.losses import (
    affinity_loss,
    distillation_kl,
    edge_loss,
    one_hot,
    overlap_loss,
    soft_dice_loss,
    weighted_cross_entropy,
)
from histill.distill.objective import Objective, TensorBatch


@pytest.fixture
def batch() -> TensorBatch:
    """Two images, the first labelled, both distilled."""
    generator = torch.Generator().manual_seed(0)
    return TensorBatch(
        image=torch.zeros(2, 1, 8, 8),
        target=torch.randint(0, 2, (2, 8, 8), generator=generator),
        labeled=torch.tensor([True, False]),
        weight=torch.rand(2, 8, 8, generator=generator) + 0.5,
        mixture=torch.randn(2, 2, 8, 8, generator=generator).softmax(1),
        distilled=torch.tensor([True, True]),
    )


@pytest.fixture
def logits() -> torch.Tensor:
    """A student's output."""
    return torch.randn(2, 2, 8, 8, generator=torch.Generator().manual_seed(1))


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


def test_edges_follow_labels_where_there_are_any_and_teachers_elsewhere(
    batch: TensorBatch, logits: torch.Tensor
) -> None:
    """The labelled image at temperature 1 against its labels, the other one softened."""
    got = Objective(edge_weight=2, temperature=3)(logits, batch)
    truth = one_hot(batch.target, logits)
    first = edge_loss(logits[:1].softmax(1), truth[:1])
    second = edge_loss((logits[1:] / 3).softmax(1), batch.mixture[1:])
    assert got["edge"].item() == pytest.approx(((first + second) / 2).item())
    expected = got["ce"] + got["dice_loss"] + 2 * got["edge"]
    assert got["loss"].item() == pytest.approx(expected.item())


def test_the_affinity_term_enters_with_its_weight(batch: TensorBatch, logits: torch.Tensor) -> None:
    """Patches of the softened student against those of the mixture."""
    got = Objective(affinity_weight=5, temperature=2)(logits, batch)
    expected = affinity_loss((logits / 2).softmax(1), batch.mixture)
    assert got["affinity"].item() == pytest.approx(expected.item())
    whole = got["ce"] + got["dice_loss"] + 5 * expected
    assert got["loss"].item() == pytest.approx(whole.item())


def test_the_overlap_term_enters_with_its_weight(batch: TensorBatch, logits: torch.Tensor) -> None:
    """Soft Dice of the softened student with the mixture, under the distillation's ramp."""
    halved = Ramp(start=0.5, end=0.5)
    got = Objective(overlap_weight=5, temperature=2, distillation_ramp=halved)(logits, batch)
    expected = overlap_loss((logits / 2).softmax(1), batch.mixture)
    assert got["overlap"].item() == pytest.approx(expected.item())
    whole = got["ce"] + got["dice_loss"] + 2.5 * expected
    assert got["loss"].item() == pytest.approx(whole.item())


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 0.5), (0.2, 0.5), (0.6, 1.25), (1.0, 2.0)])
def test_weights_follow_their_ramps(
    progress: float, factor: float, batch: TensorBatch, logits: torch.Tensor
) -> None:
    """From ``after`` to ``until`` the factor goes from ``start`` to ``end`` in a line."""
    ramp = Ramp(start=0.5, end=2.0, after=0.2, until=1.0)
    objective = Objective(distillation_weight=3, temperature=2, distillation_ramp=ramp)
    got = objective(logits, batch, progress=progress)
    expected = got["ce"] + got["dice_loss"] + 3 * factor * got["kd"]
    assert got["loss"].item() == pytest.approx(expected.item())


def test_a_ramp_may_be_a_step() -> None:
    """With ``after`` and ``until`` in one place the factor jumps there."""
    ramp = Ramp(start=0.0, end=1.0, after=0.5, until=0.5)
    assert [ramp.at(progress) for progress in (0.0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]


def test_an_objective_takes_every_number_from_its_spec() -> None:
    """No field of the objective is left at its own default."""
    spec = MultiTeacherSpec(
        dataset="d",
        output_model="m",
        teachers=("t",),
        supervised_weight=0.1,
        distillation_weight=0.2,
        overlap_weight=0.25,
        edge_weight=0.3,
        affinity_weight=0.4,
        temperature=5.0,
        supervised_ramp=Ramp(end=0.1),
        distillation_ramp=Ramp(end=0.2),
        edge_ramp=Ramp(end=0.3),
        affinity_ramp=Ramp(end=0.4),
    )
    assert all(getattr(Objective.of(spec), n) == getattr(spec, n) for n in vars(Objective()))
