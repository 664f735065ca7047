"""Draws a mask's outlines over its image."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from histill.ml.colors import color
from histill.ml.decoding import decode
from histill.ml.images import WHOLE_FILE, Selection, fit_channels
from histill.ml.neighbours import differs_from_neighbour

if TYPE_CHECKING:
    from pathlib import Path


_FILL = 0.25
_PALETTE = np.array([color(index) for index in range(256)], np.float32)


def draw_overlay(
    image: Path | bytes, mask: bytes | np.ndarray | None, selection: Selection = WHOLE_FILE
) -> Image.Image:
    """An image with each class of its mask tinted and outlined.

    Args:
        image: A PNG, JPEG, TIFF or DICOM file, or a slide.
        mask: The mask as an indexed PNG, or uint8 [H, W] of class indices; ``None``
            shows the image alone.
        selection: Which of several images in the file.

    Returns:
        RGB, as large as the image.

    Raises:
        ResourceExhaustedError: It has more pixels than are held whole.
    """
    with io.BytesIO(image) if isinstance(image, bytes) else image.open("rb") as file:
        shown = fit_channels(decode(file, selection).pixels, 3)
    if mask is None:
        return Image.fromarray(shown)
    pixels = shown.astype(np.float32)
    if isinstance(mask, bytes):
        with Image.open(io.BytesIO(mask)) as opened:
            classes = np.asarray(opened)
    else:
        classes = mask
    tint = _PALETTE[classes]
    inside = (classes > 0)[..., None]
    pixels = np.where(inside, (1 - _FILL) * pixels + _FILL * tint, pixels)
    edge = inside[..., 0] & differs_from_neighbour(classes)
    pixels[edge] = tint[edge]
    return Image.fromarray(pixels.round().astype(np.uint8))
