"""Dice, IoU, surface Dice and Hausdorff distance, also against MONAI's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from scipy.spatial.distance import cdist

from histill.ml.metrics import (
    dice,
    hd95,
    iou,
    score_image,
    summarize,
    summarize_classes,
    surface,
    surface_dice,
)


def discs(seed: int) -> tuple[np.ndarray[tuple[int, int], np.dtype[np.bool_]], ...]:
    """Two overlapping discs on 40 x 48 pixels, clear of the edge."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:40, :48]
    centers = rng.uniform(16, 24, (2, 2))
    radii = rng.uniform(6, 12, 2)
    return tuple(
        np.hypot(rows - y, columns - x) < r for (y, x), r in zip(centers, radii, strict=True)
    )


def test_dice_and_iou_follow_their_formulas() -> None:
    """Two of three pixels in common: Dice 2*2/(3+3), IoU 2/4."""
    a, b = np.array([[1, 1, 1, 0]]) > 0, np.array([[0, 1, 1, 1]]) > 0
    assert dice(a, b) == pytest.approx(4 / 6)
    assert iou(a, b) == pytest.approx(2 / 4)


def test_two_empty_masks_have_no_score() -> None:
    """Where neither holds anything, there is nothing to measure: NaN."""
    empty = np.zeros((4, 4), dtype=bool)
    assert math.isnan(dice(empty, empty))
    assert math.isnan(iou(empty, empty))
    assert math.isnan(surface_dice(empty, empty, tolerance=2))


def test_a_missed_object_scores_zero() -> None:
    """One empty mask against a full one is 0 in every measure, never left out."""
    empty, full = np.zeros((4, 4), dtype=bool), np.ones((4, 4), dtype=bool)
    assert (dice(empty, full), iou(empty, full)) == (0, 0)
    assert surface_dice(empty, full, tolerance=2) == 0


def test_the_surface_is_the_outer_ring() -> None:
    """A 4 x 4 square has a ring of 12 pixels, also at the image's edge."""
    assert surface(np.ones((4, 4), dtype=bool)).sum() == 12


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tolerance", [1.0, 2.0])
def test_surface_dice_equals_monai(seed: int, tolerance: float) -> None:
    """On pairs of discs the measure is MONAI's."""
    a, b = discs(seed)
    onehot = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (a, b)]
    theirs = compute_surface_dice(onehot[0], onehot[1], class_thresholds=[tolerance])
    assert surface_dice(a, b, tolerance=tolerance) == pytest.approx(theirs.item())


def test_a_shift_within_the_tolerance_costs_nothing() -> None:
    """A square moved by two pixels keeps a surface Dice of 1 at 2 pixels."""
    a = np.zeros((20, 20), dtype=bool)
    a[5:12, 5:12] = True
    assert surface_dice(a, np.roll(a, 2, axis=1), tolerance=2) == 1


def test_images_are_pooled_and_classes_averaged() -> None:
    """Pixels of all images are counted together, each class weighs alike, absent ones not."""
    truths = [np.array([[0, 1, 2, 2]]), np.array([[0, 1, 0, 0]])]
    predictions = [truths[0], np.array([[0, 1, 1, 1]])]
    scores = summarize(
        score_image(p, t, classes=4) for p, t in zip(predictions, truths, strict=True)
    )
    assert scores.dice == pytest.approx((2 * 2 / (4 + 2) + 1) / 2)
    assert scores.iou == pytest.approx((2 / 4 + 1) / 2)


def test_a_speck_in_an_empty_image_costs_by_its_size() -> None:
    """One false pixel where the class is absent lowers the score a little, not to zero."""
    truth = np.ones((10, 10), dtype=np.uint8)
    speck = np.zeros((10, 10), dtype=np.uint8)
    speck[0, 0] = 1
    counts = [score_image(truth, truth, classes=2), score_image(speck, speck * 0, classes=2)]
    assert summarize(counts).dice == pytest.approx(200 / 201)


def test_one_image_is_scored_as_by_the_single_measures() -> None:
    """Over one image of one class the summary is dice, iou and surface_dice."""
    a, b = discs(5)
    scores = summarize([score_image(a.astype(np.uint8), b.astype(np.uint8), classes=2)])
    assert scores.dice == pytest.approx(dice(a, b))
    assert scores.iou == pytest.approx(iou(a, b))
    assert scores.nsd2 == pytest.approx(surface_dice(a, b, tolerance=2))


def test_surfaces_may_be_left_out() -> None:
    """Without surfaces the surface Dice is NaN and the rest unchanged."""
    truth = np.eye(4, dtype=np.uint8)
    scores = summarize([score_image(truth, truth, classes=2, surfaces=False)])
    assert (scores.dice, scores.iou) == (1, 1)
    assert math.isnan(scores.nsd2)


def test_without_any_foreground_the_summary_is_nan() -> None:
    """Nothing measured is NaN, not 0 and not 1."""
    empty = np.zeros((3, 3), dtype=np.uint8)
    assert math.isnan(summarize([score_image(empty, empty, classes=2)]).dice)


def test_classes_are_summarised_one_by_one() -> None:
    """Each class has its own measures, NaN where it occurs nowhere; their mean is the summary."""
    truth = np.array([[0, 1, 2, 2]])
    counts = [score_image(np.array([[0, 1, 1, 2]]), truth, classes=4)]
    first, second, third = summarize_classes(counts)
    assert (first.dice, second.dice) == pytest.approx((2 / 3, 2 / 3))
    assert math.isnan(third.dice)
    assert summarize(counts).iou == pytest.approx((first.iou + second.iou) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_hd95_follows_its_formula(seed: int) -> None:
    """The larger of both 95th percentiles over all pairs of surface pixels."""
    a, b = discs(seed)
    distances = cdist(np.argwhere(surface(a)), np.argwhere(surface(b)))
    directed = [np.percentile(distances.min(axis=axis), 95) for axis in (0, 1)]
    assert hd95(a, b) == pytest.approx(max(directed))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(4))
def test_hd95_equals_monai(seed: int) -> None:
    """On pairs of discs the distance is MONAI's."""
    a, b = discs(seed)
    onehot = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (a, b)]
    theirs = compute_hausdorff_distance(onehot[0], onehot[1], percentile=95)
    assert hd95(a, b) == pytest.approx(theirs.item(), abs=1e-5)


def test_hd95_of_a_missed_object_is_the_diagonal() -> None:
    """A missed object costs the image's diagonal; where nothing is, nothing is measured."""
    empty, full = np.zeros((30, 40), dtype=bool), np.ones((30, 40), dtype=bool)
    assert hd95(empty, full) == hd95(full, empty) == 50
    assert hd95(full, full) == 0
    assert math.isnan(hd95(empty, empty))
