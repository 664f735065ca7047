"""How well each teacher does on one image, by class and by region.

Every score is a table [K, R, C] of teachers, regions and classes, greater is better,
NaN where the reference has nothing of a class in a region. ``collapsed`` brings it to
the grain that weights are wanted at.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import uniform_filter

from histill.distill.regions import REGIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.core.manifests import ModelManifest

    Floats = npt.NDArray[np.float32]

# Shares of the three facts in an estimate without labels. Confidence alone would favour a
# teacher that is sure and wrong, so that agreement counts most.
AGREEMENT, CONFIDENCE, PRIOR = 0.5, 0.2, 0.3
_PIXEL_WINDOW = 5
_LIKELY = 0.5  # probability above which a map has a pixel of a class
_SPECKLE = 10  # pixels; fewer of a class that is not there are forgiven
_EPSILON = 1e-6


def dice_table(
    probabilities: Floats, reference: Floats, where: npt.NDArray[np.intp] | None
) -> Floats:
    """Soft Dice of each teacher with a reference.

    Args:
        probabilities: float32 [K, C, H, W].
        reference: Probabilities or one-hot labels, float32 [C, H, W], or one for each
            teacher, [K, C, H, W].
        where: Region of each pixel, [H, W]; ``None`` takes the image as one.

    Returns:
        float32 [K, R, C] in [0, 1]; squares in the denominator, so that two equal soft
        maps score 1. Where the reference has nothing of a class but some teacher sees it,
        that teacher scores near 0 and those that do not score 1; NaN where nobody sees it.
    """
    rows = []
    references = reference if reference.ndim == probabilities.ndim else reference[None]
    for mask in _masks(where):
        mine, theirs = _chosen(probabilities, mask), _chosen(references, mask)
        overlap = (mine * theirs).sum(axis=-1)
        size = np.square(mine).sum(axis=-1) + np.square(theirs).sum(axis=-1)
        dice = (2 * overlap + _EPSILON) / (size + _EPSILON)
        seen = (mine > _LIKELY).sum(axis=-1) >= _SPECKLE
        there = (theirs > _LIKELY).any(axis=-1)
        dice = np.where(seen | there, dice, 1)
        rows.append(np.where((seen | there).any(axis=0), dice, np.nan))
    return np.stack(rows, axis=1).astype(np.float32)


def loss_table(
    probabilities: Floats, target: npt.NDArray[np.uint8], where: npt.NDArray[np.intp] | None
) -> Floats:
    """Minus the mean cross-entropy over the pixels of each class, float32 [K, R, C].

    Args:
        probabilities: float32 [K, C, H, W].
        target: Labels [H, W].
        where: Region of each pixel, [H, W]; ``None`` takes the image as one.
    """
    classes = probabilities.shape[1]
    likelihood = log_likelihood(probabilities, target)
    rows = []
    for mask in _masks(where):
        chosen, truth = _chosen(likelihood, mask), _chosen(target, mask)
        column = np.full((len(probabilities), classes), np.nan)
        for c in np.unique(truth):
            column[:, c] = chosen[:, truth == c].mean(axis=1)
        rows.append(column)
    return np.stack(rows, axis=1).astype(np.float32)


def log_likelihood(probabilities: Floats, target: npt.NDArray[np.uint8]) -> Floats:
    """Log of what each teacher gives the true class, float32 [K, H, W]."""
    index = target[None, None].astype(np.intp)
    of_truth = np.take_along_axis(probabilities, index, axis=1)[:, 0]
    return np.asarray(np.log(np.maximum(of_truth, _EPSILON)), dtype=np.float32)


def estimate_table(
    probabilities: Floats,
    usable: npt.NDArray[np.bool_],
    priors: Floats,
    familiarity: Floats,
    where: npt.NDArray[np.intp] | None,
) -> Floats:
    """What stands in for a Dice table where there are no labels.

    Half is agreement (soft Dice with the mean of the other teachers), a fifth is
    confidence, the rest the recorded Dice; all of it shrinks on images unlike those
    that the teacher was trained on.

    Args:
        probabilities: Calibrated, float32 [K, C, H, W].
        usable: bool [K]; the others are nobody's peers.
        priors: Recorded Dice, float32 [K, C].
        familiarity: In [0, 1], float32 [K].
        where: Region of each pixel, [H, W]; ``None`` takes the image as one.

    Returns:
        float32 [K, R, C], in [0, 1] for usable teachers, without NaN.
    """
    sure = _sureness(probabilities)
    rows, peers = [], []
    for k, own in enumerate(probabilities):
        others = [j for j in np.flatnonzero(usable) if j != k]
        peers.append(probabilities[others].mean(axis=0) if others else own)
    agreements = filled(dice_table(probabilities, np.stack(peers), where))
    for k, agreed in enumerate(agreements):
        parts = [_chosen(sure[k], mask) for mask in _masks(where)]
        confidence = [part.mean() if part.size else sure[k].mean() for part in parts]
        table = AGREEMENT * agreed + PRIOR * priors[k]
        table += CONFIDENCE * np.array(confidence)[:, None]
        rows.append(table * familiarity[k])
    return np.stack(rows).astype(np.float32)


def estimate_pixels(probabilities: Floats, usable: npt.NDArray[np.bool_]) -> Floats:
    """Agreement and confidence around each pixel, float32 [K, H, W] in [0, 1]."""
    rows = []
    for k, own in enumerate(probabilities):
        peers = [j for j in np.flatnonzero(usable) if j != k]
        same = [(own * probabilities[j]).sum(axis=0) for j in peers]
        rows.append(np.mean(same, axis=0) if same else np.ones(own.shape[1:]))
    agreement = np.stack(rows).astype(np.float32)
    return smoothed(((agreement + _sureness(probabilities)) / 2).astype(np.float32))


def prior_dice(manifests: Sequence[ModelManifest]) -> list[float]:
    """What each teacher recorded of itself; without a record the others' mean, or 1."""
    known = [dice for m in manifests if math.isfinite(dice := m.metrics.get("dice", math.nan))]
    usual = sum(known) / len(known) if known else 1.0
    return [manifest.metrics.get("dice", usual) for manifest in manifests]


def filled(table: Floats) -> Floats:
    """A table without NaN: a class takes its region's mean, a region the image's, or 1."""
    by_region, whole = _mean(table, axis=2), _mean(table, axis=(1, 2))
    whole = np.where(np.isnan(whole), 1, whole)
    by_region = np.where(np.isnan(by_region), whole, by_region)
    return np.where(np.isnan(table), by_region, table).astype(np.float32)


def collapsed(table: Floats, *, per_class: bool) -> Floats:
    """A table [K, R, C] as it is, or as the mean [K, R, 1] over the classes that are there.

    With one region, the mean is over foreground classes where there are any. What is NaN
    everywhere stays so.
    """
    if per_class:
        return table
    if table.shape[1] == 1 and not np.isnan(table[:, :, 1:]).all():
        table = table[:, :, 1:]
    return _mean(table, axis=2)


def _mean(table: Floats, *, axis: int | tuple[int, ...]) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN
        mean: Floats = np.nanmean(table, axis=axis, keepdims=True)
        return mean.astype(np.float32)


def smoothed(planes: Floats) -> Floats:
    """Mean over 5 x 5 pixels of planes [K, H, W]."""
    size: Any = (1, _PIXEL_WINDOW, _PIXEL_WINDOW)
    return np.asarray(uniform_filter(planes, size=size, mode="reflect"), dtype=np.float32)


def _sureness(probabilities: Floats) -> Floats:
    classes = probabilities.shape[1]
    sure = (probabilities.max(axis=1) - 1 / classes) * classes / (classes - 1)
    return np.asarray(sure, dtype=np.float32)


def _masks(where: npt.NDArray[np.intp] | None) -> list[npt.NDArray[np.bool_] | None]:
    return [None] if where is None else [where == region for region in range(len(REGIONS))]


def _chosen(planes: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    """The pixels of planes [..., H, W] under a mask, [..., N]."""
    return planes.reshape(*planes.shape[:-2], -1) if mask is None else planes[..., mask]
