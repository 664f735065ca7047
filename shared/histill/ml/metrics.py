"""Measures of a predicted mask against a reference, on NumPy and SciPy alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]

_PERCENTILE = 95


@dataclass(frozen=True)
class Scores:
    """Measures over all pixels of all images, mean over foreground classes, in [0, 1].

    Attributes:
        dice: Dice coefficient.
        iou: Intersection over union.
        nsd2: Normalised surface Dice at a tolerance of 2 pixels; NaN when not asked for.
    """

    dice: float
    iou: float
    nsd2: float


def dice(prediction: Mask, truth: Mask) -> float:
    """Dice coefficient of two masks; NaN when both are empty."""
    size = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / size if size else float("nan")


def iou(prediction: Mask, truth: Mask) -> float:
    """Intersection over union of two masks; NaN when both are empty."""
    union = int((prediction | truth).sum())
    return int((prediction & truth).sum()) / union if union else float("nan")


def surface(mask: Mask) -> Mask:
    """Pixels of a mask that touch the outside by a side; the image's edge is outside."""
    return np.asarray(mask & ~binary_erosion(mask), dtype=np.bool_)


def surface_dice(prediction: Mask, truth: Mask, *, tolerance: float) -> float:
    """Share of both surfaces that lies within a tolerance of the other one.

    Args:
        prediction: bool [H, W].
        truth: bool [H, W].
        tolerance: In pixels.

    Returns:
        In [0, 1]; 0 when one mask is empty, NaN when both are.

    Source: Nikolov et al., https://arxiv.org/abs/1809.04430.
    """
    near, total = _surface_counts(prediction, truth, tolerance)
    return near / total if total else float("nan")


def _surface_counts(prediction: Mask, truth: Mask, tolerance: float) -> tuple[int, int]:
    ours, theirs = surface(prediction), surface(truth)
    total = int(ours.sum()) + int(theirs.sum())
    if not ours.any() or not theirs.any():
        return 0, total
    near = _count_near(ours, theirs, tolerance) + _count_near(theirs, ours, tolerance)
    return near, total


def _count_near(some: Mask, others: Mask, tolerance: float) -> int:
    distances: Any = distance_transform_edt(~others)
    return int((distances[some] <= tolerance).sum())


def hd95(prediction: Mask, truth: Mask) -> float:
    """The larger of both 95th percentiles of distances from one surface to the other.

    Args:
        prediction: bool [H, W].
        truth: bool [H, W].

    Returns:
        In pixels; the image's diagonal when one mask is empty, NaN when both are.
    """
    either = prediction | truth
    if not either.any():
        return float("nan")
    if not prediction.any() or not truth.any():
        return math.hypot(*prediction.shape)
    # Both surfaces lie in the box around both masks, and so does all that is near them.
    rows, columns = np.flatnonzero(either.any(axis=1)), np.flatnonzero(either.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ours, theirs = surface(prediction[box]), surface(truth[box])
    return max(_reach(ours, theirs), _reach(theirs, ours))


def _reach(some: Mask, others: Mask) -> float:
    distances: Any = distance_transform_edt(~others)
    return float(np.percentile(distances[some], _PERCENTILE))


def score_image(
    prediction: npt.NDArray[Any], truth: npt.NDArray[Any], *, classes: int, surfaces: bool = True
) -> npt.NDArray[np.int64]:
    """Counts that Dice, IoU and surface Dice at 2 pixels of each foreground class come from.

    Args:
        prediction: Class map [H, W].
        truth: Class map [H, W].
        classes: Number of classes, with the background.
        surfaces: Whether to count for the surface Dice, which costs the most.

    Returns:
        int64 [classes - 1, 3, 2]: numerator and denominator of each measure.
    """
    rows = []
    for index in range(1, classes):
        ours, theirs = prediction == index, truth == index
        common, size = int((ours & theirs).sum()), int(ours.sum()) + int(theirs.sum())
        near = _surface_counts(ours, theirs, 2.0) if surfaces else (0, 0)
        rows.append(((2 * common, size), (common, size - common), near))
    return np.array(rows, dtype=np.int64)


def summarize(counts: Iterable[npt.NDArray[np.int64]]) -> Scores:
    """Measures of each class over all images together, then the mean over classes.

    Pooling keeps what a mean over images would lose or blow up: objects found where an
    image has none of their class count by their size, and so do those that are missed.

    Args:
        counts: Of ``score_image``, one for each image; at least one.

    Returns:
        The measures; one is NaN when no class occurs anywhere.
    """
    ratios = _ratios(counts)
    known = ~np.isnan(ratios)
    sums, number = np.where(known, ratios, 0).sum(axis=0), known.sum(axis=0)
    values = [float(s / n) if n else float("nan") for s, n in zip(sums, number, strict=True)]
    return Scores(*values)


def summarize_classes(counts: Iterable[npt.NDArray[np.int64]]) -> list[Scores]:
    """Measures of each foreground class over all images together.

    Args:
        counts: Of ``score_image``, one for each image; at least one.

    Returns:
        One for each foreground class; its measures are NaN when it occurs nowhere.
    """
    return [Scores(*map(float, row)) for row in _ratios(counts)]


def _ratios(counts: Iterable[npt.NDArray[np.int64]]) -> npt.NDArray[np.float64]:
    """Each foreground class by each measure, float64 [classes - 1, 3]."""
    total = np.sum(list(counts), axis=0)
    numerators, denominators = total[..., 0], total[..., 1]
    return np.where(denominators > 0, numerators / np.maximum(denominators, 1), np.nan)
