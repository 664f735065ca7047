"""Do generated images resemble real ones more than real ones resemble each other?

Samples and patches of real images are shrunk, freed of brightness and contrast, and
compared by correlation. How near a generated sample may come is read off the real images:
the same distance between patches of one image and those of all others.

The distance alone is blunt: a smooth patch is near to every other smooth patch. What gives
a copy away is that one image is far nearer than the next, so the ratio of the two is held
against that of real patches too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.ml.patches import Grid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from histill.ml.images import Pixels
    from histill.ml.patches import Floats, Indices

SIDE = 8
STEPS = 16
YARDSTICK = 500
COPIES = 128
_BLUR = 1e-3  # distances below it are as good as none, and make no ratio
_CROPS = 4  # most copies of one image
LEAST_IMAGES = 3  # images: a patch's own, the nearest other one, and the next


@dataclass(frozen=True, eq=False)
class Nearest:
    """How near each sample comes to the real images.

    Attributes:
        distances: Of each sample to the nearest patch, float32 [N] in [0, 2].
        seconds: Of each sample to the nearest patch of any further image, float32 [N].
        images: Which image the nearest patch is of, int64 [N].
        yardstick: Of real patches to the nearest patch of another image, float32 [K].
        yardstick_seconds: And to that of any further image, float32 [K].
    """

    distances: Floats
    seconds: Floats
    images: Indices
    yardstick: Floats
    yardstick_seconds: Floats


@dataclass(frozen=True)
class Spread:
    """Some order statistics of distances, each in [0, 2]."""

    minimum: float
    percentile_1: float
    percentile_5: float
    median: float


@dataclass(frozen=True)
class Resemblance:
    """Samples against the yardstick.

    Attributes:
        samples: Nearest distances of the samples.
        yardstick: Nearest distances between the real images.
        near: Share of the samples that come nearer to a real image than the nearest
            hundredth of real patches does to another image, in [0, 1]; 0.01 is ordinary.
        singled_out: Share of the samples to which one image is nearer than the next by a
            factor that only a hundredth of real patches reaches; 0.01 is ordinary.
        count: Number of samples.
    """

    samples: Spread
    yardstick: Spread
    near: float
    singled_out: float
    count: int


def summarize(found: Nearest, part: slice = slice(None)) -> Resemblance:
    """Sums up what was found.

    Args:
        found: Of at least one sample.
        part: Of which samples.
    """
    distances = found.distances[part]
    ruler = _spread(found.yardstick)
    lone = ratios(distances, found.seconds[part])
    ordinary = np.percentile(ratios(found.yardstick, found.yardstick_seconds), 1)
    return Resemblance(
        samples=_spread(distances),
        yardstick=ruler,
        near=float(np.mean(distances < ruler.percentile_1)),
        singled_out=float(np.mean(lone < ordinary)),
        count=len(distances),
    )


def _spread(distances: Floats) -> Spread:
    return Spread(*map(float, np.percentile(distances, [0, 1, 5, 50])))


def ratios(distances: Floats, seconds: Floats) -> Floats:
    """How much nearer one image is than the next, float32 [N]; about 1 where they tie."""
    return np.asarray((distances + _BLUR) / (seconds + _BLUR), dtype=np.float32)


def cut_copies(
    images: Iterable[Pixels], *, height: int, width: int, most: int = COPIES, seed: int = 0
) -> Pixels | None:
    """Crops of real images at random places: what samples would be that repeat them.

    Compared like samples, they show what share of copies is found at all.

    Args:
        images: uint8 [h, w, C] of any size.
        height: Of a sample.
        width: Of a sample.
        most: Crops, at most 4 of one image.
        seed: Of the draw.

    Returns:
        uint8 [K, height, width, C]; ``None`` when no image is as large as a sample.
    """
    random = np.random.default_rng(seed)
    kept: list[tuple[float, Pixels]] = []
    for image in images:
        below, right = image.shape[0] - height, image.shape[1] - width
        if below < 0 or right < 0:
            continue
        for _ in range(_CROPS):
            row, column = random.integers(below + 1), random.integers(right + 1)
            crop = image[row : row + height, column : column + width].copy()
            kept.append((random.random(), crop))
        kept = sorted(kept, key=lambda each: each[0])[:most]
    return np.stack([crop for _, crop in kept]) if kept else None


def find_nearest(
    samples: Pixels,
    images: Iterable[Pixels],
    *,
    side: int = SIDE,
    steps: int = STEPS,
    yardstick: int = YARDSTICK,
    seed: int = 0,
) -> Nearest:
    """Finds the nearest real patch of each sample, and of some real patches.

    Real images are cut into overlapping patches of a sample's size; where one is smaller
    than a sample it is taken whole. What shows nothing is at a distance of 1 from
    everything. A copy that was turned, mirrored or resized is not recognised.

    Memory holds the shrunk samples and at most ``yardstick`` shrunk patches, one image, and
    the products of all these with about a thousand patches. Time grows with the square of
    ``steps``: with 2, most copies lie too far from every patch to be found.

    Args:
        samples: uint8 [N, H, W, C].
        images: Real ones, uint8 [h, w, C] of any size; gone through twice.
        side: Samples and patches are shrunk to this many pixels, if they are larger.
        steps: Patches begin this part of their side apart.
        yardstick: Most real patches, drawn at random, that are compared with those of
            other images.
        seed: Of the draw.

    Raises:
        ValueError: There are no samples, fewer than three images, channels differ, or
            images can be gone through only once.
    """
    if iter(images) is images:
        raise ValueError("images are gone through twice; an iterator is used up after once")
    if not len(samples):
        raise ValueError("there are no samples")
    grid = Grid(samples.shape[1], samples.shape[2], samples.shape[3], side, steps)
    targets = np.concatenate([patches for patches, _ in grid.patches(samples)])
    drawn, owners = _drawn(grid.patches(images), yardstick, np.random.default_rng(seed))
    search = _Search(
        np.concatenate([targets, drawn]),
        np.concatenate([np.full(len(targets), -1), owners]),
    )
    count = 0
    for patches, of in grid.patches(images):
        search.look(patches, of)
        count = int(of[-1]) + 1
    if count < LEAST_IMAGES:
        raise ValueError(
            f"at least {LEAST_IMAGES} images are needed to compare them with each other"
        )
    distances, seconds = _distance(search.best), _distance(search.second)
    cut = len(targets)
    return Nearest(
        distances[:cut], seconds[:cut], search.found[:cut], distances[cut:], seconds[cut:]
    )


class _Search:
    """The highest correlation of some rows with patches, and that with a further image.

    Args:
        rows: float32 [R, D].
        owners: The image that each row is of and is not compared with, int64 [R]; or -1.
    """

    def __init__(self, rows: Floats, owners: Indices) -> None:
        self._rows, self._owners = rows, owners
        self.best = np.full(len(rows), -1, np.float32)
        self.second = np.full(len(rows), -1, np.float32)
        self.found = np.full(len(rows), -1, np.int64)

    def look(self, patches: Floats, of: Indices) -> None:
        """Compares with more patches; those of one image lie side by side."""
        likeness = self._rows @ patches.T
        first = np.flatnonzero(np.diff(of, prepend=-1))
        highest = np.maximum.reduceat(likeness, first, axis=1)
        for column, image in enumerate(of[first]):
            here = np.where(self._owners == image, np.float32(-1), highest[:, column])
            other = self.found != image  # than the best one so far
            better = here > self.best
            beaten = np.where(better, self.best, np.maximum(self.second, here))
            self.second = np.where(other, beaten, self.second)
            self.best = np.maximum(self.best, here)
            self.found = np.where(better, image, self.found)


def _distance(correlation: Floats) -> Floats:
    return np.clip(1 - correlation, 0, 2)


def _drawn(
    chunks: Iterable[tuple[Floats, Indices]], most: int, random: np.random.Generator
) -> tuple[Floats, Indices]:
    """Patches drawn evenly from all there are, float32 [K, D], and the image of each."""
    kept: Floats | None = None
    keys, owners = np.zeros(0), np.zeros(0, np.int64)
    for patches, of in chunks:
        # The lowest keys stay, whatever number of patches is still to come.
        keys = np.concatenate([keys, random.random(len(patches))])
        owners = np.concatenate([owners, of])
        kept = patches if kept is None else np.concatenate([kept, patches])
        stay = np.argsort(keys)[:most]
        keys, owners, kept = keys[stay], owners[stay], kept[stay]
    return np.zeros((0, 1), np.float32) if kept is None else kept, owners
