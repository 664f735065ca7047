"""How much of the student's new samples comes from G1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from histill.core.specs import SampleSharing

_TOLERATED = 0.05  # agreement on simple samples, lost since its best, at which G1 pauses


def hard_share(sharing: SampleSharing, *, progress: float, forgetting: float) -> float:
    """The share of G1 in new samples.

    Args:
        sharing: The rule and its share.
        progress: Of the run, in [0, 1].
        forgetting: Agreement with the teacher on simple samples that the student has lost
            since its best, in [0, 1].

    Returns:
        In [0, ``sharing.hard_share``].
    """
    match sharing.rule:
        case "fixed":
            return sharing.hard_share
        case "rising":
            return sharing.hard_share * min(1.0, 2 * progress)
        case "adaptive":
            return sharing.hard_share * max(0.0, 1 - forgetting / _TOLERATED)
