"""Panoptic quality: whether single objects are found, and how well they are outlined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_MATCH = 0.5  # above it no object can have two partners
_DENSE = 2**22  # pairs of numbers that are counted in a table


@dataclass(frozen=True)
class Panoptic:
    """Matches of objects, to be added over images.

    Source: Kirillov et al., https://arxiv.org/abs/1801.00868.

    Attributes:
        found: Predicted objects with a partner of IoU above 0.5 (true positives).
        extra: Those without (false positives).
        missed: Reference objects without (false negatives).
        overlap: Sum of the IoU of all pairs.
    """

    found: int = 0
    extra: int = 0
    missed: int = 0
    overlap: float = 0.0

    def __add__(self, other: Self) -> Panoptic:
        return Panoptic(
            self.found + other.found,
            self.extra + other.extra,
            self.missed + other.missed,
            self.overlap + other.overlap,
        )

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the pairs; NaN without any."""
        return self.overlap / self.found if self.found else float("nan")

    @property
    def rq(self) -> float:
        """Recognition quality: F1 of the objects; NaN when there are none at all."""
        total = self.found + (self.extra + self.missed) / 2
        return self.found / total if total else float("nan")

    @property
    def pq(self) -> float:
        """Panoptic quality, the product of both; 0 when nothing matches."""
        return self.rq * self.sq if self.found else self.rq


def match_objects(prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Panoptic:
    """Pairs the objects of two images of object numbers.

    Args:
        prediction: Integers [H, W], 0 outside objects; numbers may be missing.
        truth: The same.
    """
    ours, theirs = np.bincount(prediction.ravel()), np.bincount(truth.ravel())
    both = (prediction > 0) & (truth > 0)
    columns = len(theirs)
    numbers = prediction[both].astype(np.int64) * columns + truth[both]
    pairs, common = _counted(numbers, len(ours) * columns)
    iou = common / (ours[pairs // columns] + theirs[pairs % columns] - common)
    iou = iou[iou > _MATCH]
    found = len(iou)
    return Panoptic(
        found=found,
        extra=int(np.count_nonzero(ours[1:])) - found,
        missed=int(np.count_nonzero(theirs[1:])) - found,
        overlap=float(iou.sum()),
    )


def _counted(
    numbers: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Numbers below ``size`` that occur, and how often each does."""
    if size > _DENSE:
        pairs, common = np.unique(numbers, return_counts=True)
        return pairs.astype(np.intp), common
    table = np.bincount(numbers, minlength=1)
    pairs = np.flatnonzero(table)
    return pairs, table[pairs]
