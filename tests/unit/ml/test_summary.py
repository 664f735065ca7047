"""Areas, objects and confidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import label

from histill.ml.summary import Summary, Tally
from histill.ml.tiling import Part


def summarize(
    mask: np.ndarray,
    confidence: np.ndarray,
    *,
    classes: int,
    spacing: tuple[float, float] | None = None,
    rows: int = 1000,
) -> Summary:
    tally = Tally(classes, spacing)
    for start in range(0, len(mask), rows):
        stop = start + rows
        tally.add(Part(start, 0, mask[start:stop], confidence[start:stop]))
    return tally.result()


def test_counts_pixels_objects_and_confidence() -> None:
    """Corners that touch are one object; the background has none."""
    mask = np.zeros((6, 6), np.uint8)
    mask[0, 0] = mask[1, 1] = 1
    mask[4:, 4:] = 1
    confidence = np.where(mask == 1, 0.75, 0.5).astype(np.float16)
    summary = summarize(mask, confidence, classes=3, spacing=(0.5, 0.2))
    background, nuclei, none = summary.classes
    assert (background.pixels, background.objects) == (30, 0)
    assert (nuclei.pixels, nuclei.objects) == (6, 2)
    assert nuclei.area_mm2 == pytest.approx(0.6)
    assert nuclei.mean_confidence == pytest.approx(0.75)
    assert (none.pixels, none.objects, none.mean_confidence) == (0, 0, 0)
    assert summary.mean_confidence == pytest.approx((30 * 0.5 + 6 * 0.75) / 36)


def test_without_spacing_there_is_no_area() -> None:
    """Square millimetres are 0 when nobody knows how large a pixel is."""
    ones = np.ones((300, 2), np.uint8)
    summary = summarize(ones, ones.astype(np.float16), classes=2)
    assert summary.classes[1].area_mm2 == 0
    assert summary.classes[1].pixels == 600


@settings(max_examples=300, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=14), elements=st.integers(0, 2)),
    st.integers(1, 5),
)
def test_objects_are_counted_over_bands(mask: np.ndarray, rows: int) -> None:
    """Rows that come some at a time give the objects of the whole mask."""
    summary = summarize(mask, np.ones(mask.shape, np.float16), classes=3, rows=rows)
    for index in (1, 2):
        assert summary.classes[index].objects == label(mask == index, np.ones((3, 3)))[1]


def test_frames_are_not_connected() -> None:
    """The last row of one frame does not touch the first of the next."""
    ones = np.ones((4, 4), np.uint8)
    tally = Tally(2)
    for _ in range(3):
        tally.add(Part(0, 0, ones, ones.astype(np.float16)))
    assert tally.result().classes[1].objects == 3
