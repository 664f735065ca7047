"""GeoJSON written while a mask's rows come: each object when it has ended."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import find_objects

from histill.core.errors import ResourceExhaustedError
from histill.ml import components
from histill.ml.geojson import PLAIN, Outlines, feature
from histill.ml.images import MAX_PIXELS
from histill.ml.polygons import trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Labels = npt.NDArray[np.int32]
    Pixels = npt.NDArray[np.uint8]

_GZIP = 16 + zlib.MAX_WBITS  # as zlib wants it said
_LEVEL = 6
_STRIP = 2048  # columns


class FeatureStream:
    """A FeatureCollection, see ``geojson``; implements ``masks.Writer``.

    Rows are kept for as long as an object in them may go on below. Those that come are looked
    at when there are as many as are kept: however high an object is, the time is in
    proportion to the image.

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
        self._waiting: list[Pixels] = []
        self._first = 0  # of the rows that are held
        self._before = '{"type":"FeatureCollection","features":['
        self._zip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP) if outlines.gzip else None

    def add(self, rows: Pixels) -> bytes:
        """The file's next bytes, of class indices, uint8 [h, W].

        Raises:
            ResourceExhaustedError: Objects are too high to be kept whole.
        """
        self._waiting.append(rows)
        waiting = sum(len(each) for each in self._waiting)
        kept = 0 if self._held is None else len(self._held)
        last = self._first + kept + waiting >= self._height
        if waiting < kept and not last:
            return b""
        before = [] if self._held is None else [self._held]
        held = np.concatenate([*before, *self._waiting])
        self._waiting = []
        goes_on = np.zeros(held.shape, bool)
        written = []
        for index in range(1, len(self._classes)):
            labels, number = components.parts(held == index, corners=True)
            open_ones = np.zeros(number + 1, bool)
            if not last:
                open_ones[labels[-1]] = True
                open_ones[0] = False
                goes_on |= open_ones[labels]
            for made in self._features(labels, ~open_ones, index):
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

    def _features(
        self, labels: Labels, ended: npt.NDArray[np.bool_], index: int
    ) -> Iterator[dict[str, Any]]:
        for inside, row, column in _strips(labels, ended):
            corner = self._first + row, column
            for parts in trace(inside):
                yield feature(
                    parts, self._classes, index, self._outlines, self._spacing, corner=corner
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


def _strips(
    labels: Labels, wanted: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.bool_], int, int]]:
    """Objects by where they begin, some columns at a time: outlines take far more memory.

    Args:
        labels: Numbers of the objects, int32 [h, W].
        wanted: By number.

    Yields:
        The objects of a strip, bool [h, w], and their first row and column.
    """
    boxes = {n: box for n, box in enumerate(find_objects(labels), start=1) if box and wanted[n]}
    strips: dict[int, list[int]] = {}
    for number, (_, columns) in boxes.items():
        strips.setdefault(columns.start // _STRIP, []).append(number)
    for _, members in sorted(strips.items()):
        rows, columns = (
            slice(
                min(boxes[n][axis].start for n in members),
                max(boxes[n][axis].stop for n in members),
            )
            for axis in (0, 1)
        )
        chosen = np.zeros(len(wanted), bool)
        chosen[members] = True
        yield chosen[labels[rows, columns]], rows.start, columns.start
