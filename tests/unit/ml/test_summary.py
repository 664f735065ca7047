"""Areas, objects and confidence."""

from __future__ import annotations

import numpy as np
import pytest

from histill.ml.summary import summarize
from histill.ml.tiling import ClassMap


def test_counts_pixels_objects_and_confidence() -> None:
    """Corners that touch are one object; the background has none."""
    mask = np.zeros((6, 6), np.uint8)
    mask[0, 0] = mask[1, 1] = 1
    mask[4:, 4:] = 1
    confidence = np.where(mask == 1, 0.75, 0.5).astype(np.float16)
    summary = summarize(ClassMap(mask, confidence), classes=3, spacing=(0.5, 0.2))
    background, nuclei, none = summary.classes
    assert (background.pixels, background.objects) == (30, 0)
    assert (nuclei.pixels, nuclei.objects) == (6, 2)
    assert nuclei.area_mm2 == pytest.approx(0.6)
    assert nuclei.mean_confidence == pytest.approx(0.75)
    assert (none.pixels, none.objects, none.mean_confidence) == (0, 0, 0)
    assert summary.mean_confidence == pytest.approx((30 * 0.5 + 6 * 0.75) / 36)


def test_without_spacing_there_is_no_area() -> None:
    """Square millimetres are 0 when nobody knows how large a pixel is."""
    found = ClassMap(np.ones((300, 2), np.uint8), np.ones((300, 2), np.float16))
    summary = summarize(found, classes=2)
    assert summary.classes[1].area_mm2 == 0
    assert summary.classes[1].pixels == 600
