"""Membership inference: can one tell from a model's answers what it was trained on?

Every attack gives each example a score, higher where it takes it for a member; what an
attack is worth is measured on examples whose membership is known. An AUC of 0.5 is a
guess. As attacks that are right about a few examples only harm those few all the same,
the share of members found at a small share of false alarms is measured too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

MIN_REFERENCES = 2
_OWN_VARIANCE_FROM = 64  # references; with fewer, one variance for all examples is better
_NORMAL_975 = 1.959963984540054
_TAIL = 0.025
_MIN_SPREAD = 1e-6  # references that agree to the last bit must not divide by zero


@dataclass(frozen=True)
class Attack:
    """What an attack found out.

    Attributes:
        name: ``loss`` or ``reference``.
        auc: Probability that a member scores above a non-member, ties half, in [0, 1].
        low: Lower end of its 95 % interval; NaN with fewer than two of either.
        high: Upper end.
        tpr_at_1_percent: Most members found, as a share, with at most 1 % of the
            non-members taken for members; NaN with fewer than 100 non-members.
        tpr_at_0_1_percent: The same at 0.1 %; NaN with fewer than 1000.
        members: Number of them.
        non_members: Number of them.
    """

    name: str
    auc: float
    low: float
    high: float
    tpr_at_1_percent: float
    tpr_at_0_1_percent: float
    members: int
    non_members: int


def loss_attack(members: Floats, non_members: Floats) -> Attack:
    """Takes examples of low loss for members.

    Args:
        members: Losses of examples that the model was trained on, [M].
        non_members: Losses of others from the same source, [N].

    Raises:
        ValueError: An array is empty, of another shape, or holds what is not finite.

    Source: Yeom et al. 2018, https://arxiv.org/abs/1709.01604
    """
    return measured("loss", -members, -non_members)


def reference_attack(
    members: Floats,
    non_members: Floats,
    *,
    member_references: Floats,
    non_member_references: Floats,
) -> Attack:
    """Takes for members what the model is surer of than models that never saw it.

    The score is how far the model's confidence lies above the Gaussian of the references'
    confidences, in standard deviations. With fewer than 64 references all examples share
    one standard deviation. All confidences are ``log(p / (1 - p))`` of the true class, for
    an image of many pixels their mean.

    Args:
        members: Confidences of the model, [M].
        non_members: The same, [N].
        member_references: Of R models trained on neither members nor non-members, [R, M].
        non_member_references: The same, [R, N].

    Raises:
        ValueError: There are fewer than 2 references, shapes do not fit, or a value is not
            finite.

    Source: the offline attack of Carlini et al. 2022, https://arxiv.org/abs/2112.03570
    """
    references = np.concatenate([member_references, non_member_references], axis=1)
    targets = np.concatenate([members, non_members])
    if references.shape[1:] != targets.shape:
        raise ValueError(f"references [R, {references.shape[1]}], confidences {targets.shape}")
    if len(references) < MIN_REFERENCES:
        raise ValueError(f"{len(references)} references; at least {MIN_REFERENCES} are needed")
    variances = references.var(axis=0, ddof=1, dtype=np.float64)
    if len(references) < _OWN_VARIANCE_FROM:
        variances = np.full_like(variances, variances.mean())
    spread = np.maximum(np.sqrt(variances), _MIN_SPREAD)
    scores = (targets - references.mean(axis=0, dtype=np.float64)) / spread
    return measured("reference", scores[: len(members)], scores[len(members) :])


def measured(name: str, members: Floats, non_members: Floats) -> Attack:
    """What scores are worth.

    Args:
        name: Of the attack.
        members: Scores, [M]; higher where the attack says member.
        non_members: Scores, [N].

    Raises:
        ValueError: An array is empty, of another shape, or holds what is not finite.
    """
    for scores in (members, non_members):
        if scores.ndim != 1 or not scores.size or not np.isfinite(scores).all():
            raise ValueError(f"scores {scores.shape} must be a row of finite numbers")
    auc, low, high = auc_interval(members, non_members)
    return Attack(
        name=name,
        auc=auc,
        low=low,
        high=high,
        tpr_at_1_percent=tpr_at(members, non_members, fpr=0.01),
        tpr_at_0_1_percent=tpr_at(members, non_members, fpr=0.001),
        members=len(members),
        non_members=len(non_members),
    )


def auc_interval(members: Floats, non_members: Floats) -> tuple[float, float, float]:
    """Area under the ROC curve and its 95 % interval.

    Where one group lies wholly above the other, the estimated variance is 0 and says
    nothing. There the exact binomial bound stands in: if all of k pairs, each of another
    member and another non-member, are in order, the area is at least ``0.025 ** (1 / k)``.

    Args:
        members: Scores, [M].
        non_members: Scores, [N].

    Returns:
        Area, lower end, upper end, each in [0, 1]; the ends are NaN with fewer than two
        members or non-members.

    Source: DeLong et al. 1988, https://doi.org/10.2307/2531595; by ranks, Sun and Xu 2014,
        https://doi.org/10.1109/LSP.2014.2337313
    """
    m, n = len(members), len(non_members)
    ranks = midranks(np.concatenate([members, non_members]))
    # Share of non-members below each member, and of members above each non-member.
    below = (ranks[:m] - midranks(members)) / n
    above = 1 - (ranks[m:] - midranks(non_members)) / m
    auc = float(below.mean())
    if min(m, n) < 2:  # noqa: PLR2004 - a variance needs two
        return auc, math.nan, math.nan
    if np.min(members) > np.max(non_members):
        return auc, _TAIL ** (1 / min(m, n)), 1.0
    if np.max(members) < np.min(non_members):
        return auc, 0.0, 1 - _TAIL ** (1 / min(m, n))
    half = _NORMAL_975 * math.sqrt(below.var(ddof=1) / m + above.var(ddof=1) / n)
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def midranks(values: Floats) -> npt.NDArray[np.float64]:
    """Ranks from 1, float64 [N]; equal values share the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: npt.NDArray[np.float64] = last - (counts - 1) / 2
    return shared[where.reshape(-1)]


def tpr_at(members: Floats, non_members: Floats, *, fpr: float) -> float:
    """Most members found while at most a share of the non-members is taken for members.

    Args:
        members: Scores, [M].
        non_members: Scores, [N].
        fpr: The share, in (0, 1).

    Returns:
        Share of the members, in [0, 1]; NaN with fewer than ``1 / fpr`` non-members, as
        not a single false alarm is within the share then.
    """
    # 0.01 * 100 may come out below 1.
    allowed = math.floor(fpr * len(non_members) + 1e-9)
    if allowed < 1:
        return math.nan
    # The highest score that may no longer be taken for a member's; ties go with it.
    limit = np.sort(non_members)[::-1][allowed]
    return float(np.mean(members > limit))
