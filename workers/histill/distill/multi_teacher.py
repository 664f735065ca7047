"""Which teacher to believe where: their weights, and the mixture the student learns.

A score for each teacher, at the grain asked for, goes through a softmax with a
temperature. Where an image has labels, the score is how well the teacher does on them.
Where it has none, it is what the teacher scored on the labelled images that look most
alike, as far as there are any, and an estimate without labels beyond that.

Everything here is plain NumPy on one full image; it runs once per image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from histill.distill import scores
from histill.distill.opinions import completed
from histill.distill.regions import regions

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.core.specs import TeacherWeighting
    from histill.distill.opinions import Floats
    from histill.distill.transfer import Evidence

_BY_CLASS = frozenset({"class", "class_region"})
_BY_REGION = frozenset({"region", "class_region"})


@dataclass(frozen=True)
class Opinions:
    """What K teachers say about one image.

    Attributes:
        sharp: Calibrated probabilities, float32 [K, C, H, W], rows of unusable teachers 0.
        soft: The same at the distillation temperature.
        usable: bool [K]; the output of the others is not finite.
        known: bool [K, C], the classes that each teacher tells apart.
        priors: Recorded Dice, float32 [K, C].
        familiarity: How like its training images this one is, float32 [K] in (0, 1].
    """

    sharp: Floats
    soft: Floats
    usable: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    priors: Floats
    familiarity: Floats


@dataclass(frozen=True)
class Verdict:
    """The teachers' answer together.

    Attributes:
        weights: Mean weight of each teacher, float32 [K]; all 0 when none is usable.
        consensus: Weighted mean of ``sharp``, float32 [C, H, W].
        mixture: Weighted mean of ``soft``, float32 [C, H, W].
        table: Score of each teacher at the grain, float32 [K, R, C], NaN where this image
            does not tell; empty where no score was needed.
        estimate: What the score would be estimated at without labels, of that shape.
    """

    weights: Floats
    consensus: Floats
    mixture: Floats
    table: Floats = field(default_factory=lambda: np.zeros((0, 1, 1), dtype=np.float32))
    estimate: Floats = field(default_factory=lambda: np.zeros((0, 1, 1), dtype=np.float32))


def softmax(logits: Floats, *, axis: int) -> Floats:
    """Probabilities along an axis; rows of nothing but -inf become zeros."""
    top = logits.max(axis=axis, keepdims=True)
    powers = np.exp(logits - np.where(np.isfinite(top), top, 0))
    total = powers.sum(axis=axis, keepdims=True)
    return (powers / np.where(total > 0, total, 1)).astype(np.float32)


def judge(
    opinions: Opinions,
    target: npt.NDArray[np.uint8] | None,
    *,
    weighting: TeacherWeighting,
    evidence: Evidence | None = None,
) -> Verdict:
    """Weighs the teachers on one image and mixes their probabilities.

    Probabilities are mixed, never logits: the mean of logits is a geometric mean, which
    one overconfident teacher decides.

    Args:
        opinions: What they say.
        target: Labels [H, W]; ``None`` without.
        weighting: Grain, score, temperature and smallest weight.
        evidence: What labelled images tell, where this one has no labels.
    """
    opinions = _completed(opinions)
    grain = weighting.grain
    uniform = grain == "uniform" or (
        target is None and (grain == "ca_mkd" or weighting.unlabeled == "uniform")
    )
    if uniform or not opinions.usable.any():
        return _mixed(opinions, _even(opinions), None)
    if grain == "ca_mkd" and target is not None:
        return _mixed(opinions, _confidence_aware(opinions, target), None)
    if grain == "pixel":
        return _by_pixel(opinions, target, weighting, evidence)
    where = None
    if grain in _BY_REGION:
        shape = target if target is not None else _rough(opinions, weighting, evidence)
        where = regions(shape, band=weighting.band)
    table, estimate = _table(opinions, target, weighting, where, evidence)
    allowed = _allowed(opinions, table.shape)
    weights = normalized_weights(scores.filled(table), allowed, weighting)
    return replace(_mixed(opinions, weights, where), table=table, estimate=estimate)


def _table(
    opinions: Opinions,
    target: npt.NDArray[np.uint8] | None,
    weighting: TeacherWeighting,
    where: npt.NDArray[np.intp] | None,
    evidence: Evidence | None,
) -> tuple[Floats, Floats]:
    """Scores and what they would be estimated at; NaN where this image does not tell."""
    silent = ~opinions.usable[:, None, None]
    estimate = np.where(silent, np.nan, _estimate(opinions, weighting, where))
    if target is None:
        table = _expected(estimate, evidence)
    else:
        table = np.where(silent, np.nan, _labeled(opinions, target, weighting, where))
    return table.astype(np.float32), estimate.astype(np.float32)


def _completed(opinions: Opinions) -> Opinions:
    if opinions.known.all() or not opinions.usable.any():
        return opinions
    # A teacher that gave nothing finite must not be asked for its view of others' gaps.
    known = opinions.known & opinions.usable[:, None]
    return replace(
        opinions,
        sharp=completed(opinions.sharp, known),
        soft=completed(opinions.soft, known),
    )


def _even(opinions: Opinions) -> Floats:
    usable = opinions.usable.astype(np.float32)
    return (usable / max(1.0, float(usable.sum())))[:, None, None]


def _confidence_aware(opinions: Opinions, target: npt.NDArray[np.uint8]) -> Floats:
    """Weights [K, 1, 1] of Zhang et al., CA-MKD, https://arxiv.org/abs/2201.00007."""
    usable = opinions.usable
    loss = -scores.log_likelihood(opinions.sharp, target).mean(axis=(1, 2))
    share = softmax(np.where(usable, loss, -np.inf).astype(np.float32), axis=0)
    others = int(usable.sum()) - 1
    weights = (1 - share) / others if others else np.ones_like(share)
    return np.where(usable, weights, 0).astype(np.float32)[:, None, None]


def _rough(
    opinions: Opinions, weighting: TeacherWeighting, evidence: Evidence | None
) -> npt.NDArray[np.uint8]:
    """A class map to find regions by, where there are no labels."""
    usable = opinions.usable[:, None, None]
    if evidence is not None:
        whole = scores.filled(evidence.table).mean(axis=(1, 2), keepdims=True)
        weights = normalized_weights(whole, usable, weighting)
    else:
        weights = (opinions.usable * opinions.familiarity)[:, None, None]
        weights = weights if weights.any() else usable.astype(np.float32)
    mixed = (opinions.sharp * weights[..., None]).sum(axis=0)
    return np.asarray(mixed.argmax(axis=0), dtype=np.uint8)


def _estimate(
    opinions: Opinions, weighting: TeacherWeighting, where: npt.NDArray[np.intp] | None
) -> Floats:
    table = scores.estimate_table(
        opinions.sharp, opinions.usable, opinions.priors, opinions.familiarity, where
    )
    return scores.collapsed(table, per_class=weighting.grain in _BY_CLASS)


def _labeled(
    opinions: Opinions,
    target: npt.NDArray[np.uint8],
    weighting: TeacherWeighting,
    where: npt.NDArray[np.intp] | None,
) -> Floats:
    if weighting.score == "loss":
        table = scores.loss_table(opinions.sharp, target, where)
    else:
        classes = opinions.sharp.shape[1]
        truth = (target == np.arange(classes)[:, None, None]).astype(np.float32)
        table = scores.dice_table(opinions.sharp, truth, where)
    return scores.collapsed(table, per_class=weighting.grain in _BY_CLASS)


def _expected(estimate: Floats, evidence: Evidence | None) -> Floats:
    if evidence is None:
        return estimate
    fallback = estimate + evidence.shift
    told = evidence.trust * evidence.table + (1 - evidence.trust) * fallback
    return np.where(np.isnan(evidence.table), fallback, told).astype(np.float32)


def _by_pixel(
    opinions: Opinions,
    target: npt.NDArray[np.uint8] | None,
    weighting: TeacherWeighting,
    evidence: Evidence | None,
) -> Verdict:
    table, estimate = _table(opinions, target, weighting, None, evidence)
    if target is not None:
        planes = scores.smoothed(scores.log_likelihood(opinions.sharp, target))
    else:
        planes = scores.estimate_pixels(opinions.sharp, opinions.usable)
        # Around the image's own score, so that what labels tell is not lost.
        planes = planes - planes.mean(axis=(1, 2), keepdims=True) + scores.filled(table)
    weights = normalized_weights(planes, opinions.usable[:, None, None], weighting)
    return Verdict(
        weights=weights.mean(axis=(1, 2)),
        consensus=_mean(opinions.sharp, weights[:, None]),
        mixture=_mean(opinions.soft, weights[:, None]),
        table=table,
        estimate=estimate,
    )


def _allowed(opinions: Opinions, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Bool [K, 1, 1 or C]: who may have a say; nobody about a class that he does not know."""
    usable = opinions.usable[:, None, None]
    if shape[2] == 1:
        return usable
    known = opinions.known[:, None, :] & usable
    # About a class that nobody knows, all are equally silent.
    return known | (usable & ~known.any(axis=0, keepdims=True))


def normalized_weights(
    table: Floats, allowed: npt.NDArray[np.bool_], weighting: TeacherWeighting
) -> Floats:
    """Softmax of scores over teachers, small weights dropped, the rest rescaled.

    Args:
        table: Scores, float32 [K, ...].
        allowed: bool, broadcast to the scores; the others get 0.
        weighting: Temperature and smallest weight. Where every weight is under the
            smallest (many equal teachers), none is dropped.

    Returns:
        float32 of the scores' shape, summing to one over teachers, or all zero.
    """
    masked = np.where(allowed, table / np.float32(weighting.temperature), np.float32(-np.inf))
    weights = softmax(masked.astype(np.float32), axis=0)
    kept = np.where(weights < weighting.min_weight, np.float32(0), weights)
    total = kept.sum(axis=0, keepdims=True)
    return np.asarray(np.where(total > 0, kept / np.where(total > 0, total, 1), weights))


def _mixed(opinions: Opinions, weights: Floats, where: npt.NDArray[np.intp] | None) -> Verdict:
    """Mixes with weights [K, R, 1 or C]."""
    # [K, 1 or C, 1, 1], or spread over the regions' pixels.
    spread = weights.transpose(0, 2, 1)[..., None] if where is None else (
        weights.transpose(0, 2, 1)[:, :, where]
    )  # fmt: skip
    return Verdict(
        weights=spread.mean(axis=(1, 2, 3)).astype(np.float32),
        consensus=_mean(opinions.sharp, spread),
        mixture=_mean(opinions.soft, spread),
    )


def _mean(probabilities: Floats, weights: Floats) -> Floats:
    """Weighted sum over teachers, summing to one over classes again.

    With weights by class, a pixel at which every expert denies his own class is left with
    next to nothing: there the plain mean of those who have a say anywhere fills up.
    """
    mixed = (probabilities * weights).sum(axis=0)
    if weights.shape[1] > 1:
        even = probabilities[weights.any(axis=(1, 2, 3))].mean(axis=0)
        total = mixed.sum(axis=0, keepdims=True)
        mixed = mixed + np.maximum(0, 1 - total) * even
        mixed = mixed / np.maximum(mixed.sum(axis=0, keepdims=True), np.float32(1e-12))
    return np.asarray(mixed, dtype=np.float32)
