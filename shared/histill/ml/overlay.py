"""Draws a mask's outlines over its image."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from histill.ml.colors import color

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_FILL = 0.25
_PALETTE = np.array([color(index) for index in range(256)], np.float32)


def draw_overlay(image: Path | bytes, mask: bytes | np.ndarray) -> Image.Image:
    """An image with each class of its mask tinted and outlined.

    Args:
        image: An image file that Pillow reads.
        mask: The mask as an indexed PNG, or uint8 [H, W] of class indices.

    Returns:
        RGB, as large as the image.
    """
    source = io.BytesIO(image) if isinstance(image, bytes) else image
    with Image.open(source) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(np.float32)
    if isinstance(mask, bytes):
        with Image.open(io.BytesIO(mask)) as opened:
            classes = np.asarray(opened)
    else:
        classes = mask
    tint = _PALETTE[classes]
    inside = (classes > 0)[..., None]
    pixels = np.where(inside, (1 - _FILL) * pixels + _FILL * tint, pixels)
    edge = inside[..., 0] & _differs_from_a_neighbour(classes)
    pixels[edge] = tint[edge]
    return Image.fromarray(pixels.round().astype(np.uint8))


def _differs_from_a_neighbour(classes: np.ndarray) -> npt.NDArray[np.bool_]:
    padded = np.pad(classes, 1, mode="edge")
    around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs: npt.NDArray[np.bool_] = np.zeros(classes.shape, bool)
    for neighbour in around:
        differs |= neighbour != classes
    return differs
