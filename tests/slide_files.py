"""Slides made on the spot: pyramids of tiled TIFF, as scanners and converters write them."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TILE = 256


def pyramid(
    levels: Sequence[np.ndarray], *, um_per_pixel: float = 0.5, description: str | None = None
) -> bytes:
    """A pyramidal TIFF, losslessly compressed.

    Args:
        levels: uint8 [H, W, 3] each, the largest first.
        um_per_pixel: Of the largest.
        description: Of the first page; Aperio's makes it an SVS file.
    """
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as tiff:
        for index, level in enumerate(levels):
            scale = levels[0].shape[1] / level.shape[1]
            tiff.write(
                level,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="zlib",
                resolution=(10_000 / um_per_pixel / scale,) * 2,
                resolutionunit="CENTIMETER",
                description=None if index else description,
                metadata=None,
                subfiletype=int(index > 0),
            )
    return out.getvalue()


def sparse(height: int, width: int, tiles: dict[tuple[int, int], np.ndarray]) -> bytes:
    """A slide of any size of which only some tiles were scanned.

    Args:
        height: Rows.
        width: Columns.
        tiles: uint8 [256, 256, 3] by their row and column among the tiles.
    """
    out = io.BytesIO()
    across, down = -(-width // TILE), -(-height // TILE)

    packed = {place: zlib.compress(tile.tobytes()) for place, tile in tiles.items()}

    def scanned() -> Iterator[bytes]:
        for row in range(down):
            for column in range(across):
                yield packed.get((row, column), b"")

    with tifffile.TiffWriter(out, bigtiff=True) as tiff:
        tiff.write(
            scanned(),
            shape=(height, width, 3),
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="rgb",
            compression="zlib",
            metadata=None,
        )
    return out.getvalue()
