"""What is found in an image, written and summed up while its parts come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.inference.regions import Region, RegionForm
from histill.ml import masks
from histill.ml.appearance import Unfamiliarity
from histill.ml.images import Size
from histill.ml.summary import Tally
from histill.ml.tiling import Rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.core.manifests import ModelManifest
    from histill.inference.computer import Step
    from histill.ml.images import Picture
    from histill.ml.masks import Writer
    from histill.ml.summary import Summary

Piece = bytes | Region
# What is told while a request is worked on: before regions the image's size, then pieces of the
# mask, and after those of each tile the share of the image that is done.
News = Piece | Size | float


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
        writer: Of the mask's file, or what regions hold.
        confidence_map: Whether confidences are kept, whole, for a map.

    Attributes:
        found: After the last part.
    """

    def __init__(
        self,
        picture: Picture,
        manifest: ModelManifest,
        writer: Writer | RegionForm,
        *,
        confidence_map: bool,
    ) -> None:
        self._rows = Rows(picture.size.width)
        self._regions = writer if isinstance(writer, RegionForm) else None
        self._writer = None if isinstance(writer, RegionForm) else writer
        self._tally = Tally(len(manifest.classes), picture.spacing)
        self._unfamiliarity = Unfamiliarity(manifest.appearance)
        self._confidences: list[npt.NDArray[np.floating]] | None = [] if confidence_map else None
        self.found: Found | None = None

    def add(self, step: Step) -> list[Piece]:
        """What is ready of the mask with one more step; the rest of it with the last."""
        self._unfamiliarity.see(step.pixels)
        ready: list[Piece] = []
        if self._regions:
            ready += self._regions.written(step.part, step.seen)
        if rows := self._rows.add(step.part):
            self._tally.add(rows)
            if self._confidences is not None:
                self._confidences.append(rows.confidence)
            if self._writer:
                ready.append(self._writer.add(rows.mask))
        if step.share == 1:
            if self._writer:
                ready.append(self._writer.end())
            shown = self._confidences
            self.found = Found(
                self._tally.result(),
                self._unfamiliarity.result(),
                masks.confidence_png(np.concatenate(shown)) if shown else b"",
            )
        return [piece for piece in ready if piece]
