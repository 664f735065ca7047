"""Rectangles of a mask as messages of their own, with what the model saw there on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.ml import masks
from histill.ml.jpeg import jpeg

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from histill.ml.tiling import Part

# Rows or columns of a region: a message stays small, and a JPEG takes no side of more than
# 65,500, which a whole image of few rows may have.
MOST_SIDE = 2048


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of the mask, as a PNG of its own.

    Attributes:
        row: First row in the image.
        column: First column in the image.
        height: Number of rows.
        width: Number of columns.
        png: Indexed; values are class indices.
        picture: What the model saw there, a JPEG; empty unless it was asked for.
        confidence_map: Confidences there, a grey PNG; empty unless it was asked for.
    """

    row: int
    column: int
    height: int
    width: int
    png: bytes
    picture: bytes = b""
    confidence_map: bytes = b""


@dataclass(frozen=True)
class RegionForm:
    """What regions hold besides their mask.

    Attributes:
        picture: What the model saw there.
        confidence_map: How sure it is there.
    """

    picture: bool = False
    confidence_map: bool = False

    def written(self, part: Part, seen: npt.NDArray[np.uint8]) -> Iterator[Region]:
        """The regions of a part of an image: one, of a very long part some.

        Args:
            part: Of the mask.
            seen: What the network saw of it, uint8 [h, w, C].
        """
        height, width = part.mask.shape
        for row in range(0, height, MOST_SIDE):
            for column in range(0, width, MOST_SIDE):
                place = slice(row, row + MOST_SIDE), slice(column, column + MOST_SIDE)
                mask = part.mask[place]
                yield Region(
                    part.row + row,
                    part.column + column,
                    mask.shape[0],
                    mask.shape[1],
                    masks.png(mask),
                    jpeg(seen[place]) if self.picture else b"",
                    masks.confidence_png(part.confidence[place]) if self.confidence_map else b"",
                )
