"""What a mask shows: areas, objects and confidence of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.ml.components import ObjectCount

if TYPE_CHECKING:
    from histill.ml.tiling import Part

_BAND_PIXELS = 1 << 18


@dataclass(frozen=True)
class ClassArea:
    """What was found of one class.

    Attributes:
        index: Its value in the mask.
        pixels: Area in pixels.
        area_mm2: Area in square millimetres; 0 when the spacing is not known.
        objects: Number of 8-connected parts; 0 for the background.
        mean_confidence: Mean probability over its pixels, in [0, 1]; 0 without any.
    """

    index: int
    pixels: int
    area_mm2: float
    objects: int
    mean_confidence: float


@dataclass(frozen=True)
class Summary:
    """Every class, and the mean of the winning probability over all pixels, in [0, 1]."""

    classes: tuple[ClassArea, ...]
    mean_confidence: float


class Tally:
    """Sums a mask up while its rows come.

    Args:
        classes: Number of classes; each gets an entry.
        spacing: Millimetres from row to row and from column to column.
    """

    def __init__(self, classes: int, spacing: tuple[float, float] | None = None) -> None:
        self._millimetres = spacing[0] * spacing[1] if spacing else 0.0
        self._pixels = np.zeros(classes, np.int64)
        self._confidence = np.zeros(classes, np.float64)
        self._objects = [ObjectCount() for _ in range(classes)]

    def add(self, rows: Part) -> None:
        """Counts the next rows of an image, all columns of them; those at 0 begin another one."""
        pixels, confidence = self._pixels, self._confidence
        # In bands: bincount copies what it counts into eight bytes a pixel.
        height = max(1, _BAND_PIXELS // rows.mask.shape[1])
        for start in range(0, rows.mask.shape[0], height):
            band = rows.mask[start : start + height].ravel()
            weights = rows.confidence[start : start + height].ravel()
            pixels += np.bincount(band, minlength=len(pixels))
            confidence += np.bincount(band, weights=weights, minlength=len(pixels))
        for index, objects in enumerate(self._objects):
            if not rows.row:
                objects.begin()
            if index:
                objects.add(rows.mask == index)

    def result(self) -> Summary:
        """Of all that was added."""
        areas = tuple(
            ClassArea(
                index=index,
                pixels=pixels,
                area_mm2=pixels * self._millimetres,
                objects=self._objects[index].number,
                mean_confidence=_share(self._confidence[index], pixels),
            )
            for index, pixels in enumerate(self._pixels.tolist())
        )
        return Summary(areas, _share(self._confidence.sum(), self._pixels.sum()))


def _share(total: float, count: int) -> float:
    return min(1.0, float(total / count)) if count else 0.0
