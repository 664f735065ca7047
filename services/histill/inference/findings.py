"""What is found in an image, written and summed up while its parts come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.ml import masks
from histill.ml.appearance import Unfamiliarity
from histill.ml.summary import Tally
from histill.ml.tiling import Rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.core.manifests import ModelManifest
    from histill.ml.images import Picture
    from histill.ml.masks import Writer
    from histill.ml.summary import Summary
    from histill.ml.tiling import Part


@dataclass(frozen=True, eq=False)
class Region:
    """A rectangle of the mask, as a PNG of its own.

    Attributes:
        row: First row in the image.
        column: First column in the image.
        height: Number of rows.
        width: Number of columns.
        png: Indexed; values are class indices.
    """

    row: int
    column: int
    height: int
    width: int
    png: bytes


Piece = bytes | Region


@dataclass(frozen=True, eq=False)
class Found:
    """What the whole mask shows.

    Attributes:
        summary: Areas, objects, confidences.
        unfamiliarity: How unlike the model's images it is; 0 when theirs are not known.
        confidence_map: A grey PNG; empty unless it was asked for.
    """

    summary: Summary
    unfamiliarity: float
    confidence_map: bytes


class Findings:
    """Takes the parts of an image and hands out what can be sent of its mask.

    Args:
        picture: The image, or the first of several frames.
        manifest: Of the model.
        writer: Of the mask's file; ``None`` where regions are wanted instead.
        confidence_map: Whether confidences are kept, whole, for a map.

    Attributes:
        found: After the last part.
    """

    def __init__(
        self,
        picture: Picture,
        manifest: ModelManifest,
        writer: Writer | None,
        *,
        confidence_map: bool,
    ) -> None:
        self._rows = Rows(picture.size.width)
        self._writer = writer
        self._tally = Tally(len(manifest.classes), picture.spacing)
        self._unfamiliarity = Unfamiliarity(manifest.appearance)
        self._confidences: list[npt.NDArray[np.floating]] | None = [] if confidence_map else None
        self.found: Found | None = None

    def add(self, part: Part, pixels: npt.NDArray[np.uint8], *, last: bool) -> list[Piece]:
        """What is ready of the mask with one more part; the rest of it with the last.

        Args:
            part: Of the mask.
            pixels: That the network saw for it, uint8 [h, w, C].
            last: Whether it is the image's last part.
        """
        self._unfamiliarity.see(pixels)
        ready: list[Piece] = []
        if self._writer is None:
            height, width = part.mask.shape
            ready.append(Region(part.row, part.column, height, width, masks.png(part.mask)))
        if rows := self._rows.add(part):
            self._tally.add(rows)
            if self._confidences is not None:
                self._confidences.append(rows.confidence)
            if self._writer:
                ready.append(self._writer.add(rows.mask))
        if last:
            if self._writer:
                ready.append(self._writer.end())
            shown = self._confidences
            self.found = Found(
                self._tally.result(),
                self._unfamiliarity.result(),
                masks.confidence_png(np.concatenate(shown)) if shown else b"",
            )
        return [piece for piece in ready if piece]
