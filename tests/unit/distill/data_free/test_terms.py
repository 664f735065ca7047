"""The terms of generators' and student's losses, each against its plain formula."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from histill.distill.data_free import terms

if TYPE_CHECKING:
    import numpy.typing as npt

    Doubles = npt.NDArray[np.float64]

SHAPES = [(5, 3), (5, 3, 4, 6)]


def logits(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def softmax(values: torch.Tensor) -> Doubles:
    x = values.double().numpy()
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_centred_over_classes(shape: tuple[int, ...]) -> None:
    """Their mean over classes is taken off; softmax gives the same as before."""
    x = logits(shape)
    plain = x.numpy() - x.numpy().mean(axis=1, keepdims=True)
    np.testing.assert_allclose(terms.centred(x).numpy(), plain, atol=1e-6)
    np.testing.assert_allclose(softmax(terms.centred(x)), softmax(x), atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("agreeing_only", [False, True])
def test_disagreement_is_the_mean_difference_of_centred_logits(
    shape: tuple[int, ...], *, agreeing_only: bool
) -> None:
    """Over classes and pixels, image by image; where classes differ it may count as 0."""
    student, teacher = logits(shape, 0), logits(shape, 1)
    ours, theirs = (x.numpy() - x.numpy().mean(axis=1, keepdims=True) for x in (student, teacher))
    apart = np.abs(ours - theirs).mean(axis=1)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    assert same.any()
    assert not same.all()
    if agreeing_only:
        apart = np.where(same, apart, 0)
    got = terms.disagreement(student, teacher, agreeing_only=agreeing_only)
    np.testing.assert_allclose(got.numpy(), apart.reshape(5, -1).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_disagreement_does_not_see_a_shift_of_all_logits(shape: tuple[int, ...]) -> None:
    """What softmax does not see is no disagreement, and equal logits have none."""
    student, teacher = logits(shape, 0), logits(shape, 1)
    shift = 10 * logits((shape[0], 1, *shape[2:]), 2)
    moved = terms.disagreement(student + shift, teacher)
    torch.testing.assert_close(moved, terms.disagreement(student, teacher), rtol=1e-4, atol=1e-5)
    assert float(terms.disagreement(student + shift, student).max()) < 1e-5


def test_both_adversaries_fall_as_disagreement_grows() -> None:
    """``log`` is -log(1 + D), whose pull fades as D grows; ``plain`` is -D."""
    apart = torch.tensor([0.5, 2.5], requires_grad=True)
    log, plain = (terms.adversarial(apart, kind=kind) for kind in ("log", "plain"))
    assert log.item() == pytest.approx(-np.log(1 + 1.5))
    assert plain.item() == pytest.approx(-1.5)
    pulls = [torch.autograd.grad(one, apart)[0].sum().item() for one in (log, plain)]
    assert pulls == pytest.approx([-1 / 2.5, -1.0])


@pytest.mark.parametrize("shape", SHAPES)
def test_uncertainty_is_the_mean_entropy(shape: tuple[int, ...]) -> None:
    """In nats, over images and pixels."""
    shares = softmax(logits(shape))
    expected = -(shares * np.log(shares)).sum(axis=1).mean()
    assert terms.uncertainty(logits(shape)).item() == pytest.approx(expected, rel=1e-5)


def test_uncertainty_goes_from_0_to_that_of_a_uniform_guess() -> None:
    """0 where the teacher is sure everywhere, log of the number of classes where it is not."""
    sure = torch.tensor([[100.0, 0.0, 0.0]])
    assert terms.uncertainty(sure).item() == pytest.approx(0, abs=1e-6)
    assert terms.uncertainty(torch.zeros(2, 3)).item() == pytest.approx(np.log(3))


def test_class_imbalance_is_the_negative_entropy_of_the_mean_prediction() -> None:
    """In nats, of the batch and not of its images."""
    x = logits((6, 4))
    mean = softmax(x).mean(axis=0)
    expected = (mean * np.log(mean)).sum()
    assert terms.class_imbalance(x).item() == pytest.approx(expected, rel=1e-5)


def test_class_imbalance_is_least_for_a_uniform_batch() -> None:
    """Sure predictions that spread over all classes are as good as it gets."""
    sure = 50 * torch.eye(4)
    least = terms.class_imbalance(sure).item()
    assert least == pytest.approx(-np.log(4), rel=1e-5)
    assert least < terms.class_imbalance(sure[[0, 1, 2, 2]]).item() - 0.1
    assert terms.class_imbalance(sure[[0, 0, 0, 0]]).item() == pytest.approx(0, abs=1e-5)


def with_shares(*shares: float) -> torch.Tensor:
    """Logits [3, C, 4, 4] with these shares in every pixel."""
    return torch.tensor(shares).log()[None, :, None, None].expand(3, -1, 4, 4)


LOW, HIGH = torch.tensor([0.5, 0.1, 0.02]), torch.tensor([0.9, 0.4, 0.08])


@pytest.mark.parametrize("shares", [(0.7, 0.25, 0.05), (0.89, 0.11, 0.021), (0.54, 0.39, 0.07)])
def test_there_is_no_gap_within_the_bounds(shares: tuple[float, ...]) -> None:
    """Any share between least and largest is as good as any other."""
    assert terms.share_gap(with_shares(*shares), LOW, HIGH).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("shares", "gap"),
    [
        ((0.7, 0.29, 0.01), 0.5),  # the rare class has half of its least share
        ((0.9, 0.05, 0.05), 0.5),  # and so has the other one: it counts alike
        ((0.4, 0.4, 0.2), 0.1 / 0.5 + 0.12 / 0.08),
        ((0.45, 0.5, 0.05), 0.05 / 0.5 + 0.1 / 0.4),
    ],
)
def test_outside_of_them_the_gap_is_relative_to_the_bound(
    shares: tuple[float, ...], gap: float
) -> None:
    """Under the least and over the largest alike, mean over classes."""
    assert terms.share_gap(with_shares(*shares), LOW, HIGH).item() == pytest.approx(
        gap / 3, rel=1e-4
    )


def test_shares_are_those_of_the_whole_batch() -> None:
    """One image may be all foreground if another has none."""
    sure = 50 * torch.eye(2)[:, :, None, None].expand(2, 2, 4, 4)
    low, high = torch.tensor([0.4, 0.4]), torch.tensor([0.6, 0.6])
    assert terms.share_gap(sure, low, high).item() == pytest.approx(0, abs=1e-6)
    assert terms.share_gap(sure[:1], low, high).item() > 0.5
