"""Images of any size through a network that takes tiles.

Tiles overlap. In the middle of an overlap their probabilities are blended by raised-cosine
ramps that sum to one; the outermost pixels of a tile, which the network saw without
their surroundings, weigh nothing. Tiles start at multiples of the network's stride,
so that every tile sees the same down-sampling grid as the whole image would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.ml.images import Reading, Size

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]

# Sides of tiles are multiples of it, where they can be: runtimes prepare for every size anew.
_GRAIN = 64


@dataclass(frozen=True, eq=False)
class Part:
    """A rectangle of an image whose classes are final.

    Attributes:
        row: Its first row in the image.
        column: Its first column in the image.
        mask: Class indices, uint8 [h, w].
        confidence: Probability of that class, float16 or float32 [h, w], in [0, 1].
    """

    row: int
    column: int
    mask: Pixels
    confidence: npt.NDArray[np.floating]


@dataclass(frozen=True)
class Tile:
    """Place of a tile in the padded image: first row and column."""

    row: int
    column: int


def pad(batch: Pixels, *, multiple: int) -> Pixels:
    """Pads below and to the right by reflection.

    Args:
        batch: uint8 [N, H, W, C] with sides of at least 1.
        multiple: Both sides become multiples of it.

    Returns:
        Contiguous, as runtimes want it.
    """
    below, right = (-side % multiple for side in batch.shape[1:3])
    if not below and not right:
        return np.ascontiguousarray(batch)
    return np.pad(batch, ((0, 0), (0, below), (0, right), (0, 0)), mode="reflect")


class Canvas:
    """Cuts an image into tiles and puts the answers together.

    Probabilities are kept only where a tile is still to come: for the ramp between two rows
    of tiles, and between two neighbours. The image itself is read tile by tile.

    Args:
        size: Of the image.
        read: Reads a region of it.
        classes: Number of classes.
        stride: Of the network.
        tile: Most pixels of a tile's side; a multiple of ``stride``.
        overlap: Least overlap of neighbours in pixels; below ``tile / 2``.

    Attributes:
        tiles: Row by row.
    """

    def __init__(
        self, size: Size, read: Reading, *, classes: int, stride: int, tile: int, overlap: int
    ) -> None:
        self._size = size
        self._read = read
        self._stride = stride
        self._rows = _Axis(size.height, stride=stride, tile=tile, overlap=overlap)
        self._columns = _Axis(size.width, stride=stride, tile=tile, overlap=overlap)
        # Rows below those that are final: what the row of tiles above says of them.
        self._above: Floats = np.zeros(
            (classes, self._rows.overlap, self._columns.end), dtype=np.float32
        )
        self._left: Floats = np.zeros((classes, 0, 0), dtype=np.float32)
        self.tiles = [Tile(r, c) for r in self._rows.places for c in self._columns.places]

    def cut(self, tile: Tile) -> Pixels:
        """The pixels of a tile, uint8 [1, h, w, C], reflected beyond the image's edge."""
        height = min(self._rows.size, self._size.height - tile.row)
        width = min(self._columns.size, self._size.width - tile.column)
        return pad(self._read(tile.row, tile.column, height, width)[None], multiple=self._stride)

    def add(self, tile: Tile, probabilities: Floats) -> Part:
        """Takes a tile's probabilities; tiles must come in the order of ``tiles``.

        Args:
            tile: One of ``tiles``.
            probabilities: float32 [classes, h, w].

        Returns:
            What no later tile touches. All parts together cover the image once.
        """
        rows, columns = self._rows.places[tile.row], self._columns.places[tile.column]
        blended: Floats = np.multiply(
            probabilities[:, rows.inside, columns.inside],
            rows.weights[:, None] * columns.weights,
            dtype=np.float32,
        )
        if tile.column:
            blended[:, :, : self._left.shape[2]] += self._left
        done = columns.next - columns.first
        self._left = blended[:, :, done:].copy()
        blended, across = blended[:, :, :done], slice(columns.first, columns.next)
        blended[:, : self._above.shape[1]] += self._above[:, :, across]
        done = rows.next - rows.first
        rest = blended.shape[1] - done
        self._above[:, :rest, across] = blended[:, done:]
        self._above[:, rest:, across] = 0
        final = blended[:, :done][:, : self._size.height - rows.first]
        mask, confidence = _winners(final[:, :, : self._size.width - columns.first])
        return Part(rows.first, columns.first, mask, confidence)


def _winners(probabilities: Floats) -> tuple[Pixels, npt.NDArray[np.float16]]:
    """Class and probability of the largest of each pixel, in a third of ``argmax``'s time."""
    best = probabilities[0].copy()
    mask = np.zeros(best.shape, np.uint8)
    for index, values in enumerate(probabilities[1:], start=1):
        np.putmask(mask, values > best, index)
        np.maximum(best, values, out=best)
    # Weights of three tiles may sum to a little more than one.
    return mask, np.minimum(best, 1, out=best).astype(np.float16)


class Rows:
    """Joins parts, as a canvas gives them, to whole rows.

    Args:
        width: Of the image.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._beside: list[Part] = []

    def add(self, part: Part) -> Part | None:
        """The rows that are whole now, as one part; ``None`` where some are still to come."""
        self._beside.append(part)
        if part.column + part.mask.shape[1] < self._width:
            return None
        parts, self._beside = self._beside, []
        if len(parts) == 1:
            return part
        return Part(
            part.row,
            0,
            np.concatenate([each.mask for each in parts], axis=1),
            np.concatenate([each.confidence for each in parts], axis=1),
        )


@dataclass(frozen=True, eq=False)
class _Place:
    """Where a tile counts along one side of an image.

    Attributes:
        first: Its first row or column that weighs anything.
        next: The first that a later tile touches, or the end.
        inside: Those that weigh anything, within the tile.
        weights: Of those, float32.
    """

    first: int
    next: int
    inside: slice
    weights: Floats


class _Axis:
    """Where tiles start along one side of an image, and how they are weighted.

    Attributes:
        places: Of the tiles, by their first row or column.
        size: Side of a tile.
        end: Of the image, padded to whole strides.
        overlap: Most rows or columns in which two neighbours weigh something.
    """

    def __init__(self, length: int, *, stride: int, tile: int, overlap: int) -> None:
        padded = math.ceil(length / stride)  # in strides, as are all numbers below
        size = min(padded, tile // stride)
        count = 1
        if padded > size:
            least_overlap = math.ceil(overlap / stride)
            count += math.ceil((padded - size) / max(1, size - least_overlap))
            # As small as so many tiles can be: 1024 pixels are two of 576, not of 768.
            needed = math.ceil((padded + (count - 1) * least_overlap) / count)
            grain = max(1, _GRAIN // stride)
            size = min(size, math.ceil(needed / grain) * grain)
        steps = np.linspace(0, padded - size, count).round().astype(int)
        starts = [int(start) * stride for start in steps]
        self.size = size * stride
        self.end = padded * stride
        self._ramp = max(1.0, overlap / 2)
        # In the middle of each overlap one tile gives way to the next; beyond that half of it
        # nothing of the other is used, however far tiles reach over each other.
        middles = [(a + b + self.size) / 2 for a, b in pairwise(starts)]
        firsts = [0, *(math.floor(middle - self._ramp / 2) for middle in middles)]
        stops = [*(math.ceil(middle + self._ramp / 2) for middle in middles), self.end]
        self.places: dict[int, _Place] = {}
        for index, start in enumerate(starts):
            first, stop = firsts[index], stops[index]
            weights = np.ones(stop - first, np.float32)
            if index:
                weights *= self._rise(first, stop, middles[index - 1])
            if index + 1 < count:
                weights *= 1 - self._rise(first, stop, middles[index])
            later = firsts[index + 1] if index + 1 < count else self.end
            inside = slice(first - start, stop - start)
            self.places[start] = _Place(first, later, inside, weights)
        self.overlap = max([0, *(a - b for a, b in zip(stops, firsts[1:], strict=False))])

    def _rise(self, first: int, stop: int, middle: float) -> Floats:
        """From 0 to 1 around the middle of an overlap."""
        along = (np.arange(first, stop) + 0.5 - middle) / self._ramp + 0.5
        return np.asarray(np.sin(np.pi / 2 * along.clip(0, 1)) ** 2, np.float32)
