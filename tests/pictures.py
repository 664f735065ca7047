"""Small made-up images with exact labels, for tests that need no real ones; masks as GeoJSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from histill.ml.features import FeatureStream
from histill.ml.geojson import PLAIN, Outlines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def blobs(seed: int, *, side: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """Dark discs on a noisy light ground.

    Returns:
        uint8 [side, side, 3], and its class map uint8 [side, side] of 0 and 1.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.uint8)
    for _ in range(4):
        row, column, radius = *random.uniform(6, side - 6, 2), random.uniform(4, 8)
        labels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 1
    light = np.where(labels[..., None] == 1, 90, 200) + random.normal(0, 12, (side, side, 3))
    return np.clip(light, 0, 255).astype(np.uint8), labels


def write_dataset(folder: Path, *, train: int = 6, val: int = 2, side: int = 48) -> Path:
    """Writes ``train/`` and ``val/`` with ``images/`` and ``labels/`` in each."""
    for split, count, offset in (("train", train, 0), ("val", val, 1000)):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, labels = blobs(offset + index, side=side)
            Image.fromarray(image).save(folder / split / "images" / f"{index}.png")
            Image.fromarray(labels).save(folder / split / "labels" / f"{index}.png")
    return folder


def geojson(
    mask: np.ndarray,
    classes: Sequence[str],
    outlines: Outlines = PLAIN,
    spacing: tuple[float, float] | None = None,
    *,
    rows: int = 100_000,
) -> bytes:
    """A mask as GeoJSON, written so many rows at a time."""
    stream = FeatureStream(len(mask), classes, outlines, spacing)
    written = [stream.add(mask[start : start + rows]) for start in range(0, len(mask), rows)]
    return b"".join([*written, stream.end()])
