"""Which teacher to believe where: their weights, and the mixture the student learns.

Scores in [0, 1] (or log-likelihoods at pixel grain with labels) go through a softmax
with a temperature. Where an image has labels, the score is how well the teacher does
on them. Where it has none, three facts stand in: how far the teacher agrees with the
others, how sure it is, and the validation Dice in its manifest. Confidence alone would
favour a teacher that is sure and wrong, so agreement counts most.

Everything here is plain NumPy on one full image; it runs once per image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import uniform_filter

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.core.specs import TeacherWeighting

    Floats = npt.NDArray[np.float32]

_AGREEMENT, _CONFIDENCE, _PRIOR = 0.5, 0.2, 0.3
_PIXEL_WINDOW = 5
_EPSILON = 1e-6


@dataclass(frozen=True)
class Verdict:
    """What the teachers say about one image together.

    Attributes:
        weights: float32 [K, 1, 1] or [K, H, W], summing to one over teachers; all zero
            when no teacher gave finite logits.
        consensus: Weighted mean probabilities at temperature 1, float32 [C, H, W].
        mixture: The same at the distillation temperature, float32 [C, H, W].
        usable: bool [K], teachers whose logits are finite.
    """

    weights: Floats
    consensus: Floats
    mixture: Floats
    usable: npt.NDArray[np.bool_]


def softmax(logits: Floats, *, axis: int) -> Floats:
    """Probabilities along an axis; rows of nothing but -inf become zeros."""
    top = logits.max(axis=axis, keepdims=True)
    powers = np.exp(logits - np.where(np.isfinite(top), top, 0))
    total = powers.sum(axis=axis, keepdims=True)
    return (powers / np.where(total > 0, total, 1)).astype(np.float32)


def soft_dice(a: Floats, b: Floats) -> float:
    """Soft Dice of two probability maps [C, H, W], mean over foreground classes.

    Two maps that both hold nothing of a class agree on it fully.
    """
    overlap = (a[1:] * b[1:]).sum(axis=(1, 2))
    # Squares, so that two equal soft maps score 1 and not less.
    size = np.square(a[1:]).sum(axis=(1, 2)) + np.square(b[1:]).sum(axis=(1, 2))
    return float(np.mean((2 * overlap + _EPSILON) / (size + _EPSILON)))


def judge(
    logits: Floats,
    target: npt.NDArray[np.uint8] | None,
    *,
    weighting: TeacherWeighting,
    temperature: float,
    priors: Floats,
) -> Verdict:
    """Weighs the teachers on one image and mixes their probabilities.

    Probabilities are mixed, never logits: the mean of logits is a geometric mean, which
    one overconfident teacher decides.

    Args:
        logits: One teacher a row, float32 [K, C, H, W]; may hold NaN or infinities.
        target: Class map, uint8 [H, W]; ``None`` for an unlabelled image.
        weighting: Grain, temperature and smallest weight.
        temperature: Of the distillation.
        priors: Recorded validation Dice of each teacher in [0, 1], float32 [K].

    Returns:
        Weights, consensus and mixture; a teacher with non-finite logits has weight 0.
    """
    usable = np.asarray(np.isfinite(logits).all(axis=(1, 2, 3)), dtype=np.bool_)
    clean = np.where(usable[:, None, None, None], logits, 0).astype(np.float32)
    probabilities = softmax(clean, axis=1)
    if weighting.grain == "uniform":
        scores = np.zeros((len(logits), 1, 1), dtype=np.float32)
    elif target is not None:
        scores = labeled_scores(probabilities, target, grain=weighting.grain)
    else:
        scores = unlabeled_scores(probabilities, usable, priors, grain=weighting.grain)
    weights = normalized_weights(scores, usable, weighting)
    return Verdict(
        weights=weights,
        consensus=mix(probabilities, weights),
        mixture=mix(softmax(clean / np.float32(temperature), axis=1), weights),
        usable=usable,
    )


def labeled_scores(probabilities: Floats, target: npt.NDArray[np.uint8], *, grain: str) -> Floats:
    """How well each teacher does on labels.

    Args:
        probabilities: float32 [K, C, H, W].
        target: uint8 [H, W].
        grain: ``image``: soft Dice; ``pixel``: minus the cross-entropy, mean over 5 x 5.

    Returns:
        float32 [K, 1, 1] or [K, H, W].
    """
    if grain == "image":
        truth = (target == np.arange(probabilities.shape[1])[:, None, None]).astype(np.float32)
        return np.array([[[soft_dice(p, truth)]] for p in probabilities], dtype=np.float32)
    of_truth = np.take_along_axis(probabilities, target[None, None].astype(np.intp), axis=1)[:, 0]
    return _smoothed(np.log(np.maximum(of_truth, _EPSILON)))


def unlabeled_scores(
    probabilities: Floats, usable: npt.NDArray[np.bool_], priors: Floats, *, grain: str
) -> Floats:
    """An estimate in [0, 1] of how well each teacher does where there are no labels.

    Args:
        probabilities: float32 [K, C, H, W].
        usable: bool [K]; the others are nobody's peers.
        priors: float32 [K].
        grain: ``image``: agreement is the mean soft Dice with each peer; ``pixel``: the
            chance of naming the same class as a peer, mean over 5 x 5.

    Returns:
        float32 [K, 1, 1] or [K, H, W].
    """
    classes = probabilities.shape[1]
    sure = (probabilities.max(axis=1) - 1 / classes) * classes / (classes - 1)
    agreement = np.stack([_agreement(k, probabilities, usable, grain) for k in range(len(sure))])
    confidence = sure.mean(axis=(1, 2), keepdims=True) if grain == "image" else _smoothed(sure)
    scores = _AGREEMENT * agreement + _CONFIDENCE * confidence + _PRIOR * priors[:, None, None]
    return np.asarray(scores, dtype=np.float32)


def _agreement(
    teacher: int, probabilities: Floats, usable: npt.NDArray[np.bool_], grain: str
) -> Floats:
    peers = [k for k in np.flatnonzero(usable) if k != teacher]
    own = probabilities[teacher]
    if grain == "image":
        dice = [soft_dice(own, probabilities[k]) for k in peers]
        return np.full((1, 1), np.mean(dice) if dice else 1, dtype=np.float32)
    if not peers:
        return np.ones(own.shape[1:], dtype=np.float32)
    same = np.mean([(own * probabilities[k]).sum(axis=0) for k in peers], axis=0)
    return np.asarray(_smoothed(same[None].astype(np.float32))[0])


def normalized_weights(
    scores: Floats, usable: npt.NDArray[np.bool_], weighting: TeacherWeighting
) -> Floats:
    """Softmax of scores over teachers, small weights dropped, the rest rescaled.

    Args:
        scores: float32 [K, ...].
        usable: bool [K]; the others get 0.
        weighting: Temperature and smallest weight. Where every weight is under the
            smallest (many equal teachers), none is dropped.

    Returns:
        float32 of the scores' shape, summing to one over teachers, or all zero.
    """
    column = usable.reshape(-1, *[1] * (scores.ndim - 1))
    masked = np.where(column, scores / np.float32(weighting.temperature), np.float32(-np.inf))
    weights = softmax(masked.astype(np.float32), axis=0)
    kept = np.where(weights < weighting.min_weight, np.float32(0), weights)
    total = kept.sum(axis=0, keepdims=True)
    return np.asarray(np.where(total > 0, kept / np.where(total > 0, total, 1), weights))


def mix(probabilities: Floats, weights: Floats) -> Floats:
    """Weighted mean of [K, C, H, W] over teachers, float32 [C, H, W]."""
    return np.asarray((probabilities * weights[:, None]).sum(axis=0), dtype=np.float32)


def _smoothed(planes: Floats) -> Floats:
    size: Any = (1, _PIXEL_WINDOW, _PIXEL_WINDOW)
    return np.asarray(uniform_filter(planes, size=size, mode="reflect"), dtype=np.float32)
