"""GeoJSON written while a mask's rows come: each object when it has ended."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from histill.core.errors import ResourceExhaustedError
from histill.ml import components
from histill.ml.geojson import PLAIN, Outlines, feature
from histill.ml.images import MAX_PIXELS
from histill.ml.polygons import trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

_GZIP = 16 + zlib.MAX_WBITS  # as zlib wants it said
_LEVEL = 6


class FeatureStream:
    """A FeatureCollection, see ``geojson``; implements ``masks.Writer``.

    Rows are kept for as long as an object in them may go on below.

    Args:
        height: Rows of the image.
        classes: Names; the index is the value in the mask, and 0 is left out.
        outlines: How to write them.
        spacing: Millimetres from row to row and from column to column, for micrometres.
        most_held: Most pixels that are kept.
    """

    def __init__(
        self,
        height: int,
        classes: Sequence[str],
        outlines: Outlines = PLAIN,
        spacing: tuple[float, float] | None = None,
        *,
        most_held: int = MAX_PIXELS,
    ) -> None:
        self._height = height
        self._classes = classes
        self._outlines = outlines
        self._spacing = spacing
        self._most_held = most_held
        self._held: Pixels | None = None
        self._first = 0  # of the rows that are held
        self._before = '{"type":"FeatureCollection","features":['
        self._zip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if outlines.gzip else None

    def add(self, rows: Pixels) -> bytes:
        """The file's next bytes, of class indices, uint8 [h, W].

        Raises:
            ResourceExhaustedError: Objects are too high to be kept whole.
        """
        held = rows if self._held is None else np.concatenate([self._held, rows])
        last = self._first + len(held) >= self._height
        goes_on = np.zeros(held.shape, bool)
        written = []
        for index in range(1, len(self._classes)):
            inside = held == index
            if not last:
                below = _reaching_down(inside)
                goes_on |= below
                inside &= ~below
            for made in self._features(inside, index):
                written.append(self._before + json.dumps(made, separators=(",", ":")))
                self._before = ","
        self._hold(held, goes_on)
        return self._packed("".join(written))

    def end(self) -> bytes:
        """The file's last bytes."""
        # The head too, where nothing was found.
        head = self._before if self._before != "," else ""
        tail = self._packed(head + "]}")
        return tail + self._zip.flush() if self._zip else tail

    def _features(self, inside: npt.NDArray[np.bool_], index: int) -> Iterator[dict[str, Any]]:
        for parts in trace(inside):
            yield feature(
                parts,
                self._classes,
                index,
                self._outlines,
                self._spacing,
                below=self._first,
            )

    def _hold(self, rows: Pixels, goes_on: npt.NDArray[np.bool_]) -> None:
        kept = np.flatnonzero(goes_on.any(axis=1))
        start = int(kept[0]) if len(kept) else len(rows)
        if goes_on[start:].size > self._most_held:
            raise ResourceExhaustedError(
                "an object is too large for its outline to be drawn; ask for MASK_FORMAT_PNG, or "
                "for a smaller level of the slide"
            )
        self._first += start
        self._held = np.where(goes_on[start:], rows[start:], np.uint8(0)) if len(kept) else None

    def _packed(self, text: str) -> bytes:
        data = text.encode()
        return self._zip.compress(data) if self._zip else data


def _reaching_down(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The 8-connected parts that touch the last row."""
    if not inside[-1].any():
        return np.zeros_like(inside)
    labels, number = components.parts(inside, corners=True)
    open_ones = np.zeros(number + 1, bool)
    open_ones[labels[-1]] = True
    open_ones[0] = False
    return open_ones[labels]
