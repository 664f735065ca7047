"""Overlapping patches of images, small and comparable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from histill.ml.images import Pixels

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_CHUNK = 1024  # patches that are compared at once, and up to a band of an image more
_FLAT = 1.0  # grey levels; a patch that varies less shows nothing but noise


@dataclass(frozen=True)
class Grid:
    """Cuts images into overlapping patches of one size; one that is smaller is taken whole.

    Attributes:
        height: Of a patch, in pixels.
        width: Of a patch, in pixels.
        channels: That every image has.
        side: Patches are shrunk to this many pixels, if they are larger.
        steps: Patches begin this part of their side apart.
    """

    height: int
    width: int
    channels: int
    side: int
    steps: int

    def patches(self, images: Iterable[Pixels]) -> Iterator[tuple[Floats, Indices]]:
        """Shrunk patches of all images, freed of brightness and contrast.

        Args:
            images: uint8 [h, w, C] of any size.

        Yields:
            About a thousand at a time: rows of mean 0 and length 1, float32 [P, D], or all 0
            where a patch shows nothing, and the image of each, int64 [P].

        Raises:
            ValueError: An image has another number of channels.
        """
        parts: list[Floats] = []
        owners: list[int] = []
        for index, image in enumerate(images):
            if image.shape[2] != self.channels:
                words = f"{image.shape[2]} channels; the samples have {self.channels}"
                raise ValueError(f"image {index} has {words}")
            for part in self._cut(image):
                parts.append(part)
                owners += [index] * len(part)
                if len(owners) >= _CHUNK:
                    yield np.concatenate(parts), np.asarray(owners, np.int64)
                    parts, owners = [], []
        if parts:
            yield np.concatenate(parts), np.asarray(owners, np.int64)

    def _cut(self, image: Pixels) -> Iterator[Floats]:
        """The patches of one image, band by band."""
        whole = image.shape[0] < self.height or image.shape[1] < self.width
        height, width = image.shape[:2] if whole else (self.height, self.width)
        down = _averaging(height, min(self.side, self.height))
        across = _averaging(width, min(self.side, self.width))
        columns = _starts(image.shape[1], width, self.steps)
        for row in _starts(image.shape[0], height, self.steps):
            # Rows first, once for all the patches of a band.
            band = np.tensordot(down, image[row : row + height].astype(np.float32), axes=1)
            windows = np.lib.stride_tricks.sliding_window_view(band, width, axis=1)
            for start in range(0, len(columns), _CHUNK):
                cut = windows[:, columns[start : start + _CHUNK]]
                yield _normalized(np.einsum("ipcw,jw->pijc", cut, across, optimize=True))


def _starts(length: int, size: int, steps: int) -> list[int]:
    """Where patches begin: a part of their size apart, and one at the very end."""
    last = length - size
    return sorted({*range(0, last + 1, max(1, size // steps)), last})


def _averaging(size: int, side: int) -> Floats:
    """Weights float32 [side, size] of the mean over ``side`` equal parts of ``size`` pixels."""
    edges = np.linspace(0, size, side + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(np.clip(overlap, 0, None) * side / size, dtype=np.float32)


def _normalized(patches: npt.NDArray[np.floating]) -> Floats:
    """Rows of mean 0 and length 1; one that shows nothing is 0, and like nothing else."""
    rows = patches.reshape(len(patches), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    least = _FLAT * np.sqrt(rows.shape[1])
    scaled: Floats = np.where(length < least, 0, rows / np.maximum(length, least))
    return scaled
