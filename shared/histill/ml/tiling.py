"""Images of any size through a network that takes tiles.

Tiles overlap. Across an overlap their probabilities are blended by raised-cosine
ramps that sum to one; the outermost pixels of a tile, which the network saw without
their surroundings, weigh nothing. Tiles start at multiples of the network's stride,
so that every tile sees the same down-sampling grid as the whole image would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ClassMap:
    """What a network says about each pixel.

    Attributes:
        mask: Class indices, uint8 [H, W].
        confidence: Probability of that class, float16 or float32 [H, W], in [0, 1].
    """

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
    """Cuts an image into tiles and puts the answers together, one row of tiles at a time.

    Full-size arrays hold the mask and its confidence only: probabilities are kept
    for one band of tiles along the shorter side of the image.

    Args:
        pixels: The image, uint8 [H, W, C].
        classes: Number of classes.
        stride: Of the network.
        tile: Side of a tile in pixels; a multiple of ``stride``.
        overlap: Least overlap of neighbours in pixels; below ``tile / 2``.
    """

    def __init__(
        self, pixels: Pixels, *, classes: int, stride: int, tile: int, overlap: int
    ) -> None:
        # Bands run along the shorter side: what they hold grows with it.
        self._turned = pixels.shape[1] > pixels.shape[0]
        self._pixels = pixels.transpose(1, 0, 2) if self._turned else pixels
        self._height, self._width = self._pixels.shape[:2]
        self._rows = _Axis(self._height, stride=stride, tile=tile, overlap=overlap)
        self._columns = _Axis(self._width, stride=stride, tile=tile, overlap=overlap)
        self._band: Floats = np.zeros(
            (classes, self._rows.size, self._columns.end), dtype=np.float32
        )
        self._mask: Pixels = np.empty((self._height, self._width), np.uint8)
        self._confidence = np.empty((self._height, self._width), np.float16)
        self.tiles = [Tile(r, c) for r in self._rows.starts for c in self._columns.starts]

    def cut(self, tile: Tile) -> Pixels:
        """The pixels of a tile, uint8 [1, h, w, C], reflected beyond the image's edge."""
        below, right = tile.row + self._rows.size, tile.column + self._columns.size
        if below <= self._height and right <= self._width:
            cut = self._pixels[tile.row : below, tile.column : right]
        else:
            rows = _reflected(tile.row, self._rows.size, self._height)
            columns = _reflected(tile.column, self._columns.size, self._width)
            cut = self._pixels[rows[:, None], columns[None, :]]
        return np.ascontiguousarray(cut.transpose(1, 0, 2) if self._turned else cut)[None]

    def add(self, tile: Tile, probabilities: Floats) -> None:
        """Takes a tile's probabilities; tiles must come in the order of ``tiles``.

        Args:
            tile: One of ``tiles``.
            probabilities: float32 [classes, h, w].
        """
        if self._turned:
            probabilities = probabilities.transpose(0, 2, 1)
        place = slice(tile.column, tile.column + self._columns.size)
        weights = self._rows.weights(tile.row)[:, None] * self._columns.weights(tile.column)
        self._band[:, :, place] += probabilities * weights
        if tile.column == self._columns.starts[-1]:
            self._finish_band(tile.row)

    def _finish_band(self, row: int) -> None:
        """Settles the rows that no later tile touches and moves the rest up."""
        later = [start for start in self._rows.starts if start > row]
        done = (later[0] if later else self._rows.end) - row
        kept = min(done, self._height - row)
        settled = self._band[:, :kept, : self._width]
        rows = slice(row, row + kept)
        self._mask[rows] = settled.argmax(axis=0)
        self._confidence[rows] = settled.max(axis=0).clip(0, 1)
        rest = self._rows.size - done
        self._band[:, :rest] = self._band[:, done:].copy()
        self._band[:, rest:] = 0

    def result(self) -> ClassMap:
        """The whole image's classes, after the last tile."""
        if self._turned:
            return ClassMap(
                np.ascontiguousarray(self._mask.T), np.ascontiguousarray(self._confidence.T)
            )
        return ClassMap(self._mask, self._confidence)


class _Axis:
    """Where tiles start along one side of an image, and how they are weighted."""

    def __init__(self, length: int, *, stride: int, tile: int, overlap: int) -> None:
        padded = math.ceil(length / stride)  # in strides, as are all numbers below
        size = min(padded, tile // stride)
        count = 1
        if padded > size:
            count += math.ceil((padded - size) / max(1, size - math.ceil(overlap / stride)))
        steps = np.linspace(0, padded - size, count).round().astype(int)
        self.starts: list[int] = [int(start) * stride for start in steps]
        self.size = size * stride
        self.end = padded * stride
        self._overlap = overlap

    def weights(self, start: int) -> Floats:
        """Weight of each row or column of the tile that starts there, float32 [size]."""
        index = self.starts.index(start)
        weights = np.ones(self.size, np.float32)
        if index > 0:
            weights *= self._rise(self.starts[index - 1], start)
        if index + 1 < len(self.starts):
            weights *= 1 - self._rise(start, self.starts[index + 1], shift=start)
        return weights

    def _rise(self, before: int, start: int, *, shift: int | None = None) -> Floats:
        """From 0 to 1 in the middle half of the overlap of two neighbours.

        Counted from ``shift``, by default from the start of the later one.
        """
        shift = start if shift is None else shift
        middle = (start + before + self.size) / 2 - shift
        width = max(1.0, self._overlap / 2)
        along = (np.arange(self.size) + 0.5 - middle) / width + 0.5
        return np.asarray(np.sin(np.pi / 2 * along.clip(0, 1)) ** 2, np.float32)


def _reflected(start: int, size: int, length: int) -> npt.NDArray[np.intp]:
    """Indices of ``size`` values from ``start``, mirrored beyond the last one."""
    indices = np.arange(start, start + size)
    if length == 1:
        return np.zeros(size, np.intp)
    period = 2 * (length - 1)
    indices %= period
    return np.where(indices < length, indices, period - indices)
