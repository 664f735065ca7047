"""Colours of classes."""

from __future__ import annotations

import io
from itertools import combinations

import numpy as np
from PIL import Image

from histill.ml import masks
from histill.ml.colors import COLORS, color


def test_every_class_has_a_colour_of_its_own() -> None:
    """256 of them, none black but the background, and no two nearly alike."""
    assert len(COLORS) == 256
    assert color(0) == (0, 0, 0)
    assert all(0 <= value <= 255 for each in COLORS for value in each)
    for one, other in combinations(COLORS, 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) >= 5
    assert min(max(each) for each in COLORS[1:]) > 90


def test_few_classes_are_told_apart_with_ease() -> None:
    """The first eight are Okabe and Ito's; the nearest two of 32 classes lie far apart."""
    assert COLORS[1:8] == (
        (230, 159, 0),
        (0, 158, 115),
        (86, 180, 233),
        (204, 121, 167),
        (240, 228, 66),
        (0, 114, 178),
        (213, 94, 0),
    )
    first = np.array(COLORS[:32], float)
    apart = [float(np.linalg.norm(one - other)) for one, other in combinations(first, 2)]
    assert min(apart) > 40


def test_a_mask_that_is_shown_can_be_read_back() -> None:
    """The palette of a mask's PNG holds the colours, so that colours give class indices."""
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with Image.open(io.BytesIO(masks.png(mask))) as opened:
        shown = np.asarray(opened.convert("RGB"))
    assert [tuple(each) for each in shown.reshape(-1, 3).tolist()] == list(COLORS)
