"""Panoptic quality, also against a plain formula and MONAI's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.metrics.panoptic_quality import compute_panoptic_quality

from histill.ml import panoptic
from histill.ml.panoptic import Panoptic, match_objects

if TYPE_CHECKING:
    import numpy.typing as npt


def squares(seed: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Squares in a grid, numbered with gaps, and the same ones shifted or left out."""
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros((2, 60, 60), dtype=np.int32)
    for number, (row, column) in enumerate(np.ndindex(5, 5)):
        top, left = 12 * row + 1, 12 * column + 1
        if rng.random() < 0.8:
            truth[top : top + 9, left : left + 9] = 3 * number + 1
        if rng.random() < 0.8:
            down, right = rng.integers(0, 4, 2)
            prediction[top + down : top + down + 8, left + right : left + right + 8] = 90 - number
    return prediction, truth


def slow(prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Panoptic:
    """The paper's formula, pair by pair."""
    ours, theirs = (set(np.unique(m)) - {0} for m in (prediction, truth))
    overlaps = []
    for a in ours:
        for b in theirs:
            one, other = prediction == a, truth == b
            overlap = (one & other).sum() / (one | other).sum()
            if overlap > 0.5:
                overlaps.append(float(overlap))
    found = len(overlaps)
    return Panoptic(found, len(ours) - found, len(theirs) - found, sum(overlaps))


@pytest.mark.parametrize("dense", [0, 2**22])
@pytest.mark.parametrize("seed", range(4))
def test_matches_follow_the_paper(seed: int, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts and overlaps are those of the plain formula, however pairs are counted."""
    monkeypatch.setattr(panoptic, "_DENSE", dense)
    prediction, truth = squares(seed)
    got, expected = match_objects(prediction, truth), slow(prediction, truth)
    assert (got.found, got.extra, got.missed) == (expected.found, expected.extra, expected.missed)
    assert got.overlap == pytest.approx(expected.overlap)
    assert got.found * got.extra * got.missed > 0


@pytest.mark.parametrize("seed", range(4))
def test_panoptic_quality_equals_monai(seed: int) -> None:
    """PQ, SQ and RQ of one image are MONAI's."""
    pair = squares(seed)
    got = match_objects(*pair)
    ours, truth = (torch.from_numpy(np.unique(m, return_inverse=True)[1]) for m in pair)
    for name, value in (("pq", got.pq), ("sq", got.sq), ("rq", got.rq)):
        theirs: Any = compute_panoptic_quality(ours, truth, metric_name=name)
        assert value == pytest.approx(float(theirs), abs=1e-5)


def test_images_are_added() -> None:
    """Counts over images add up before any ratio is taken."""
    some, others = match_objects(*squares(0)), match_objects(*squares(1))
    both = some + others
    assert both.found == some.found + others.found
    assert both.sq == pytest.approx((some.overlap + others.overlap) / both.found)


def test_nothing_found_is_zero_and_nothing_there_is_nan() -> None:
    """Objects that are all missed give 0, empty images nothing."""
    empty, one = np.zeros((4, 4), dtype=np.int32), np.ones((4, 4), dtype=np.int32)
    assert (match_objects(empty, one).pq, match_objects(one, empty).pq) == (0, 0)
    assert match_objects(one, one).pq == 1
    assert math.isnan(match_objects(empty, empty).pq)


def test_an_overlap_of_one_half_is_no_match() -> None:
    """The IoU must be above one half, not at it."""
    truth = np.array([[1, 1, 0]])
    assert match_objects(np.array([[1, 0, 0]]), truth) == Panoptic(0, 1, 1, 0.0)
