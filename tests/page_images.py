"""Images for tests of the page: light ground, bands of brightness, in every kind of file."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

import dicoms

Pixels = npt.NDArray[np.uint8]


def tissue(height: int, width: int, *, seed: int = 0, cell: int = 20) -> Pixels:
    """Patches of three brightnesses with some noise, whose classes models here know.

    Args:
        height: Rows.
        width: Columns.
        seed: Of the patches.
        cell: Side of a patch.

    Returns:
        uint8 [height, width, 3].
    """
    random = np.random.default_rng(seed)
    down, across = -(-height // cell), -(-width // cell)
    shades = random.choice(np.array([60, 130, 210, 210], np.int16), (down, across))
    patches = np.kron(shades, np.ones((cell, cell), np.int16))[:height, :width]
    tint = np.array([6, -4, 10], np.int16)
    noise = random.integers(-6, 7, (height, width, 1), np.int16)
    return np.asarray(np.clip(patches[..., None] + tint + noise, 0, 255), np.uint8)


def png(pixels: Pixels) -> bytes:
    """Losslessly; compressed little, for it shall be quick."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def jpeg(pixels: Pixels) -> bytes:
    """With losses that no eye sees."""
    return dicoms.jpeg(pixels)


def tiff(pixels: Pixels, *, tile: int = 0) -> bytes:
    """In strips, or in tiles of a side."""
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        pixels,
        photometric="rgb",
        compression="zlib",
        tile=(tile, tile) if tile else None,
        metadata=None,
    )
    return out.getvalue()


def dicom(pixels: Pixels) -> bytes:
    """As a camera at a microscope writes it."""
    return dicoms.dicom(pixels, kind="RGB")
