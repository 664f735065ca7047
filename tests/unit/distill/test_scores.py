"""Scores of teachers against plain NumPy formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.ndimage import uniform_filter
from scipy.special import softmax

from histill.distill import scores

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]


@pytest.fixture
def probabilities() -> Floats:
    """Of two teachers and three classes, float32 [2, 3, 6, 7]."""
    drawn = np.random.default_rng(0).normal(size=(2, 3, 6, 7))
    found: Floats = softmax(drawn, axis=1).astype(np.float32)
    return found


@pytest.fixture
def target() -> npt.NDArray[np.uint8]:
    """A class map that lacks class 2."""
    return np.random.default_rng(1).integers(0, 2, (6, 7)).astype(np.uint8)


@pytest.fixture
def where() -> npt.NDArray[np.intp]:
    """Regions: rows 0-1, 2-3, 4-5."""
    return np.repeat(np.arange(3), 2)[:, None].repeat(7, axis=1)


def one_hot(target: npt.NDArray[np.uint8]) -> Floats:
    planes: Floats = (target == np.arange(3)[:, None, None]).astype(np.float32)
    return planes


def test_dice_table_is_the_soft_dice_of_each_class_in_each_region(
    probabilities: Floats, target: npt.NDArray[np.uint8], where: npt.NDArray[np.intp]
) -> None:
    """2 sum(p y) / (sum(p^2) + sum(y^2)), NaN where the class is absent."""
    got = scores.dice_table(probabilities, one_hot(target), where)
    assert got.shape == (2, 3, 3)
    for k in range(2):
        for r in range(3):
            for c in range(2):
                p, y = probabilities[k, c][where == r], (target == c)[where == r]
                expected = 2 * (p * y).sum() / ((p**2).sum() + y.sum())
                assert got[k, r, c] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(got[:, :, 2]).all()


def test_a_class_that_is_not_there_is_held_against_who_sees_it() -> None:
    """Near 0 for the one that does, 1 for the others; a few stray pixels are forgiven."""
    truth = np.zeros((20, 20), dtype=np.uint8)
    truth[:8] = 1
    seen = truth.copy()
    seen[10:14, :10] = 2
    stray = truth.copy()
    stray[15, :3] = 2
    said = np.stack([one_hot(each) for each in (truth, seen, stray)])
    got = scores.dice_table(said, one_hot(truth), None)[:, 0, 2]
    np.testing.assert_allclose(got, [1, 0, 1], atol=1e-6)


def test_loss_table_is_minus_the_mean_cross_entropy_of_a_class_in_a_region(
    probabilities: Floats, target: npt.NDArray[np.uint8], where: npt.NDArray[np.intp]
) -> None:
    """Mean of log p[target] over the pixels of the class, NaN where there are none."""
    got = scores.loss_table(probabilities, target, where)
    for r in range(3):
        chosen = (where == r) & (target == 1)
        expected = np.log(probabilities[0, 1][chosen]).mean()
        assert got[0, r, 1] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(got[:, :, 2]).all()


def test_estimate_is_half_agreement_and_some_confidence_and_record(
    probabilities: Floats,
) -> None:
    """0.5 agreement + 0.2 confidence + 0.3 recorded Dice, times familiarity."""
    priors = np.array([[0.8] * 3, [0.6] * 3], dtype=np.float32)
    familiar = np.array([1.0, 0.5], dtype=np.float32)
    usable = np.array([True, True])
    got = scores.estimate_table(probabilities, usable, priors, familiar, None)
    for k in range(2):
        own, peer = probabilities[k], probabilities[1 - k]
        agreement = 2 * (own * peer).sum((1, 2)) / ((own**2).sum((1, 2)) + (peer**2).sum((1, 2)))
        confidence = ((own.max(axis=0) - 1 / 3) * 1.5).mean()
        expected = (0.5 * agreement + 0.2 * confidence + 0.3 * priors[k]) * familiar[k]
        np.testing.assert_allclose(got[k, 0], expected, rtol=1e-4)


def test_pixel_estimate_is_agreement_and_confidence_around_a_pixel(
    probabilities: Floats,
) -> None:
    """The mean of both, over 5 x 5 pixels."""
    got = scores.estimate_pixels(probabilities, np.array([True, True]))
    same = (probabilities[0] * probabilities[1]).sum(axis=0)
    sure = (probabilities[0].max(axis=0) - 1 / 3) * 1.5
    expected = uniform_filter((same + sure) / 2, size=5, mode="reflect")
    np.testing.assert_allclose(got[0], expected, rtol=1e-4)


def test_gaps_take_the_mean_of_their_region_then_of_the_image() -> None:
    """A class without pixels scores as its region, a region without as the image."""
    table = np.array([[[0.2, np.nan], [np.nan, np.nan], [0.4, 0.8]]], dtype=np.float32)
    got = scores.filled(table)
    whole = (0.2 + 0.4 + 0.8) / 3
    np.testing.assert_allclose(got[0], [[0.2, 0.2], [whole, whole], [0.4, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(scores.filled(np.full((1, 1, 2), np.nan, dtype=np.float32)), 1)


def test_the_image_grain_is_the_mean_over_foreground_classes() -> None:
    """Background counts only where there is nothing else."""
    table = np.array([[[0.9, 0.4, 0.6]], [[0.9, np.nan, np.nan]]], dtype=np.float32)
    got = scores.collapsed(table, per_class=False)
    assert got[0].item() == pytest.approx(0.5)
    assert got[1].item() != got[1].item()  # this one does not tell
    only_background = scores.collapsed(table[1:], per_class=False)
    assert only_background.item() == pytest.approx(0.9)
