"""Measures of a predicted mask against a reference, on NumPy and SciPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Scores:
    """Means over images and then over foreground classes, each in [0, 1].

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
    ours, theirs = surface(prediction), surface(truth)
    total = int(ours.sum()) + int(theirs.sum())
    if total == 0:
        return float("nan")
    if not ours.any() or not theirs.any():
        return 0.0
    near = int((distance_transform_edt(~theirs)[ours] <= tolerance).sum())
    near += int((distance_transform_edt(~ours)[theirs] <= tolerance).sum())
    return near / total


def score_image(
    prediction: npt.NDArray[Any], truth: npt.NDArray[Any], *, classes: int, surfaces: bool = True
) -> npt.NDArray[np.float64]:
    """Dice, IoU and surface Dice at 2 pixels of each foreground class.

    Args:
        prediction: Class map [H, W].
        truth: Class map [H, W].
        classes: Number of classes, with the background.
        surfaces: Whether to compute the surface Dice, which costs the most.

    Returns:
        float64 [classes - 1, 3]; NaN where a class is in neither map.
    """
    rows = []
    for index in range(1, classes):
        ours, theirs = prediction == index, truth == index
        nsd = surface_dice(ours, theirs, tolerance=2.0) if surfaces else float("nan")
        rows.append((dice(ours, theirs), iou(ours, theirs), nsd))
    return np.array(rows)


def summarize(scores: Iterable[npt.NDArray[np.float64]]) -> Scores:
    """Means of ``score_image`` over images, then over classes, leaving NaN out.

    A class that is nowhere is left out; when all are, every measure is NaN.
    """
    stacked = np.stack(list(scores))
    counted = ~np.isnan(stacked)
    images = counted.sum(axis=0)
    sums = np.where(counted, stacked, 0).sum(axis=0)
    means = np.where(images > 0, sums / np.maximum(images, 1), np.nan)
    known = ~np.isnan(means)
    number = known.sum(axis=0)
    totals = np.where(known, means, 0).sum(axis=0)
    values = [float(t / n) if n else float("nan") for t, n in zip(totals, number, strict=True)]
    return Scores(*values)
