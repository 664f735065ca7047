"""Outlines of a mask over its image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from histill.ml.overlay import draw_overlay


def test_classes_are_tinted_and_outlined_and_the_rest_is_left_alone() -> None:
    """Background pixels stay; a class's edge has its full colour, its inside a tint."""
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (200, 200, 200)).save(buffer, "PNG")
    mask = np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7] = 1
    drawn = np.asarray(draw_overlay(buffer.getvalue(), mask))
    assert drawn[0, 0].tolist() == [200, 200, 200]
    edge, inside = drawn[2, 2], drawn[4, 4]
    assert edge.tolist() != inside.tolist()
    assert inside.tolist() != [200, 200, 200]
    assert drawn.shape == (9, 9, 3)


def test_a_mask_may_come_as_a_png() -> None:
    """An indexed PNG gives the same picture as its array."""
    image, mask = Image.new("RGB", (4, 4), "white"), np.eye(4, dtype=np.uint8)
    encoded = [io.BytesIO(), io.BytesIO()]
    image.save(encoded[0], "PNG")
    Image.fromarray(mask).save(encoded[1], "PNG")
    from_png = draw_overlay(encoded[0].getvalue(), encoded[1].getvalue())
    from_array = draw_overlay(encoded[0].getvalue(), mask)
    assert from_png.tobytes() == from_array.tobytes()
