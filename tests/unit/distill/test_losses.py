"""The loss terms against plain NumPy formulas and at their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn import functional

from histill.distill.losses import (
    affinity_loss,
    distillation_kl,
    edge_loss,
    overlap_loss,
    soft_dice_loss,
    weighted_cross_entropy,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def logits() -> torch.Tensor:
    """Two images of 4 x 5 pixels, three classes, in double precision."""
    return torch.randn(
        2, 3, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).requires_grad_()


@pytest.fixture
def target() -> torch.Tensor:
    """Class maps of both images; the second lacks class 2."""
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, 3, (2, 4, 5), generator=generator)
    target[1] = target[1].clamp(max=1)
    return target


@pytest.fixture
def weight() -> torch.Tensor:
    """Pixel weights."""
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, 4, 5, generator=generator, dtype=torch.float64) + 0.5


@pytest.fixture
def mixture() -> torch.Tensor:
    """Teachers' probabilities."""
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64).softmax(1)


def test_cross_entropy_is_the_weighted_mean_of_minus_log_likelihood(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> None:
    """Cross-entropy equals -mean(w * log p[target]) over all pixels."""
    p = softmax(logits.detach().numpy(), axis=1)
    of_truth = np.take_along_axis(p, target.numpy()[:, None], axis=1)[:, 0]
    expected = -(weight.numpy() * np.log(of_truth)).mean()
    assert weighted_cross_entropy(logits, target, weight=weight).item() == pytest.approx(expected)


def test_cross_entropy_counts_labelled_images_only(
    logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> None:
    """With a mask, the mean runs over the labelled images alone."""
    masked = weighted_cross_entropy(logits, target, weight=weight, mask=torch.tensor([True, False]))
    alone = weighted_cross_entropy(logits[:1], target[:1], weight=weight[:1])
    assert masked.item() == pytest.approx(alone.item())


def test_soft_dice_is_one_minus_the_mean_over_foreground_classes(
    logits: torch.Tensor, target: torch.Tensor
) -> None:
    """Soft Dice equals its formula, summed over the batch, background left out."""
    p = softmax(logits.detach().numpy(), axis=1)
    losses = []
    for index in (1, 2):
        truth = target.numpy() == index
        losses.append(1 - 2 * (p[:, index] * truth).sum() / (p[:, index].sum() + truth.sum()))
    assert soft_dice_loss(logits, target).item() == pytest.approx(np.mean(losses), rel=1e-5)


def test_soft_dice_leaves_absent_classes_out(logits: torch.Tensor, target: torch.Tensor) -> None:
    """A class that no labelled image holds has no part in the mean."""
    masked = soft_dice_loss(logits, target, mask=torch.tensor([False, True]))
    p = softmax(logits.detach().numpy(), axis=1)[1, 1]
    truth = target.numpy()[1] == 1
    expected = 1 - 2 * (p * truth).sum() / (p.sum() + truth.sum())
    assert masked.item() == pytest.approx(expected, rel=1e-5)


def test_soft_dice_of_an_empty_target_is_zero(logits: torch.Tensor) -> None:
    """Without foreground there is nothing to overlap with, and no gradient."""
    loss = soft_dice_loss(logits, torch.zeros(2, 4, 5, dtype=torch.int64))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_soft_dice_of_a_sure_and_right_answer_is_near_zero(target: torch.Tensor) -> None:
    """A perfect prediction costs nothing."""
    sure = functional.one_hot(target, 3).movedim(-1, 1).double() * 100
    assert soft_dice_loss(sure, target).item() == pytest.approx(0, abs=1e-6)


def test_kl_is_summed_over_classes_and_averaged_over_pixels(
    logits: torch.Tensor, mixture: torch.Tensor, weight: torch.Tensor
) -> None:
    """The distillation term equals tau^2 * mean(w * sum_c p log(p / q))."""
    p, q = mixture.numpy(), softmax(logits.detach().numpy() / 3, axis=1)
    expected = 9 * (weight.numpy() * (p * np.log(p / q)).sum(axis=1)).mean()
    got = distillation_kl(logits, mixture, temperature=3.0, weight=weight)
    assert got.item() == pytest.approx(expected)


def test_kl_with_one_teacher_is_plain_knowledge_distillation(logits: torch.Tensor) -> None:
    """For a single teacher it is torch's own KL divergence between softened outputs."""
    teacher = torch.randn_like(logits)
    got = distillation_kl(logits, (teacher / 2).softmax(1), temperature=2.0)
    plain = functional.kl_div(
        (logits / 2).log_softmax(1), (teacher / 2).log_softmax(1), log_target=True, reduction="sum"
    )
    assert got.item() == pytest.approx(4 * plain.item() / (2 * 4 * 5))


def test_kl_of_equal_distributions_is_zero(logits: torch.Tensor) -> None:
    """A student that agrees with its teachers has nothing to learn."""
    got = distillation_kl(logits, (logits / 2).softmax(1).detach(), temperature=2.0)
    assert got.item() == pytest.approx(0, abs=1e-12)


def test_kl_bears_zero_probabilities(logits: torch.Tensor) -> None:
    """A teacher that is wholly sure turns the term into a cross-entropy."""
    target = torch.ones(2, 4, 5, dtype=torch.int64)
    sure = functional.one_hot(target, 3).movedim(-1, 1).double()
    got = distillation_kl(logits, sure, temperature=1.0)
    assert got.item() == pytest.approx(functional.cross_entropy(logits, target).item())


def test_overlap_is_one_minus_the_soft_dice_of_two_maps(
    logits: torch.Tensor, mixture: torch.Tensor
) -> None:
    """1 - 2 sum(p q) / (sum(p^2) + sum(q^2)) a foreground class over the batch, then the mean."""
    p, q = softmax(logits.detach().numpy(), axis=1), mixture.numpy()
    dice = [
        2 * (p[:, c] * q[:, c]).sum() / ((p[:, c] ** 2).sum() + (q[:, c] ** 2).sum())
        for c in (1, 2)
    ]
    got = overlap_loss(logits.softmax(1), mixture)
    assert got.item() == pytest.approx(1 - np.mean(dice), rel=1e-5)


def test_overlap_with_itself_costs_nothing_however_soft(mixture: torch.Tensor) -> None:
    """Equal soft maps are the minimum, also where a class has no mass at all."""
    assert overlap_loss(mixture, mixture).item() == pytest.approx(0, abs=1e-9)
    empty = torch.zeros_like(mixture)
    empty[:, 0] = 1
    assert overlap_loss(empty, empty).item() == 0


def test_edges_are_compared_by_their_differences_to_neighbours(
    logits: torch.Tensor, mixture: torch.Tensor
) -> None:
    """The edge term is the L1 distance of all forward differences, mean over pixels."""
    apart = softmax(logits.detach().numpy(), axis=1) - mixture.numpy()
    total = np.abs(np.diff(apart, axis=2)).sum() + np.abs(np.diff(apart, axis=3)).sum()
    got = edge_loss(logits.softmax(1), mixture)
    assert got.item() == pytest.approx(total / (2 * 4 * 5))


def test_edges_of_a_shifted_map_are_the_same(mixture: torch.Tensor) -> None:
    """A constant in each class moves no boundary."""
    shift = torch.tensor([0.1, -0.04, -0.06], dtype=torch.float64)[None, :, None, None]
    assert edge_loss(mixture + shift, mixture).item() == pytest.approx(0, abs=1e-12)


def test_a_boundary_one_pixel_away_costs_and_one_in_place_does_not() -> None:
    """The term sees where a boundary is, and none where there is none."""
    truth = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    truth[:, 0, :, :4], truth[:, 1, :, 4:] = 1, 1
    moved = truth.roll(1, dims=3)
    moved[..., 0] = truth[..., 0]
    assert edge_loss(truth, truth).item() == 0
    assert edge_loss(moved, truth).item() == pytest.approx(8 * 4 / 64)


def test_affinities_are_the_cosines_of_patches(mixture: torch.Tensor) -> None:
    """The affinity term is the mean squared difference of all pairs of patches' cosines."""
    ours = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ours, theirs = ours.softmax(1), mixture[..., :4]
    matrices = []
    for planes in (ours, theirs):
        pooled = planes.numpy().reshape(2, 3, 2, 2, 2, 2).mean(axis=(3, 5)).reshape(2, 3, 4)
        unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        matrices.append(np.einsum("bcn,bcm->bnm", unit, unit))
    expected = np.square(matrices[0] - matrices[1]).mean()
    assert affinity_loss(ours, theirs, patch=2).item() == pytest.approx(expected)


def test_affinities_of_equal_maps_are_equal(mixture: torch.Tensor) -> None:
    """A student that agrees has nothing to learn from pairs either."""
    assert affinity_loss(mixture, mixture, patch=2).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("term", ["ce", "dice", "kl", "overlap", "edge", "affinity"])
def test_terms_without_any_counted_image_are_zero_with_zero_gradient(
    term: str, logits: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor
) -> None:
    """When no image counts, the term is 0 and still part of the graph."""
    nobody = torch.zeros(2, dtype=torch.bool)
    loss = {
        "ce": lambda: weighted_cross_entropy(logits, target, mask=nobody),
        "dice": lambda: soft_dice_loss(logits, target, mask=nobody),
        "kl": lambda: distillation_kl(logits, mixture, temperature=2.0, mask=nobody),
        "overlap": lambda: overlap_loss(logits.softmax(1), mixture, mask=nobody),
        "edge": lambda: edge_loss(logits.softmax(1), mixture, mask=nobody),
        "affinity": lambda: affinity_loss(logits.softmax(1), mixture, patch=2, mask=nobody),
    }[term]()
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_gradients_are_right(
    logits: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor, weight: torch.Tensor
) -> None:
    """Analytic gradients of every term agree with finite differences."""
    mask = torch.tensor([True, False])
    assert torch.autograd.gradcheck(
        lambda x: (
            weighted_cross_entropy(x, target, weight=weight, mask=mask),
            soft_dice_loss(x, target, mask=mask),
            distillation_kl(x, mixture, temperature=2.0, weight=weight),
            overlap_loss(x.softmax(1), mixture, mask=mask),
            edge_loss(x.softmax(1), mixture, mask=mask),
            affinity_loss(x.softmax(1), mixture, patch=2),
        ),
        (logits,),
    )


def test_parts_of_a_batch_add_up_to_the_whole(
    logits: torch.Tensor, target: torch.Tensor, mixture: torch.Tensor
) -> None:
    """With totals over two processes each gets the loss of the whole batch."""
    whole = [
        weighted_cross_entropy(logits, target).item(),
        soft_dice_loss(logits, target).item(),
        distillation_kl(logits, mixture, temperature=2.0).item(),
        overlap_loss(logits.softmax(1), mixture).item(),
    ]

    def both(parts: list[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        """Adds what the other process would contribute, in the order of the calls."""
        others = iter(parts)
        return lambda value: value + next(others)

    def recorded(into: list[torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
        def keep(value: torch.Tensor) -> torch.Tensor:
            into.append(value.detach())
            return value

        return keep

    def losses(part: slice, total: Callable[[torch.Tensor], torch.Tensor]) -> list[float]:
        return [
            weighted_cross_entropy(logits[part], target[part], total=total).item(),
            soft_dice_loss(logits[part], target[part], total=total).item(),
            distillation_kl(logits[part], mixture[part], temperature=2.0, total=total).item(),
            overlap_loss(logits[part].softmax(1), mixture[part], total=total).item(),
        ]

    second: list[torch.Tensor] = []
    losses(slice(1, 2), recorded(second))
    assert losses(slice(0, 1), both(second)) == pytest.approx(whole)
