"""What a mask shows: areas, objects and confidence of each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.ml import components

if TYPE_CHECKING:
    from histill.ml.tiling import ClassMap

_BAND_ROWS = 256


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


def summarize(
    found: ClassMap, *, classes: int, spacing: tuple[float, float] | None = None
) -> Summary:
    """Sums a mask up.

    Args:
        found: Mask and confidence.
        classes: Number of classes; each gets an entry.
        spacing: Millimetres from row to row and from column to column.
    """
    pixels = np.zeros(classes, np.int64)
    confidence = np.zeros(classes, np.float64)
    # In bands: bincount copies what it counts into eight bytes a pixel.
    for start in range(0, found.mask.shape[0], _BAND_ROWS):
        band = found.mask[start : start + _BAND_ROWS].ravel()
        weights = found.confidence[start : start + _BAND_ROWS].ravel()
        pixels += np.bincount(band, minlength=classes)
        confidence += np.bincount(band, weights=weights, minlength=classes)
    millimetres = spacing[0] * spacing[1] if spacing else 0.0
    areas = tuple(
        ClassArea(
            index=index,
            pixels=int(pixels[index]),
            area_mm2=float(pixels[index] * millimetres),
            objects=_objects(found, index) if index and pixels[index] else 0,
            mean_confidence=_share(confidence[index], pixels[index]),
        )
        for index in range(classes)
    )
    return Summary(areas, _share(confidence.sum(), pixels.sum()))


def _objects(found: ClassMap, index: int) -> int:
    return components.parts(found.mask == index, corners=True)[1]


def _share(total: float, count: int) -> float:
    return min(1.0, float(total / count)) if count else 0.0
