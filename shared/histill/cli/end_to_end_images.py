"""A made-up dataset that any system can learn from in seconds: dark discs on a light ground."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from histill.core.errors import CorruptArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from histill.client import Segmentation

CLASSES = ("background", "disc")
TRAIN, VAL = 8, 2
_SIDE = 64
_DISCS = 4
_HELD_OUT = 4711


def discs(seed: int, *, height: int = _SIDE, width: int = _SIDE) -> tuple[np.ndarray, np.ndarray]:
    """One image, a function of its seed.

    Returns:
        uint8 [height, width, 3], and its classes, uint8 [height, width] of 0 and 1.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    labels = np.zeros((height, width), np.uint8)
    for _ in range(_DISCS):
        row, column, radius = random.uniform([0, 0, 5], [height, width, 10])
        labels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 1
    light = np.where(labels[..., None] == 1, 90, 200) + random.normal(0, 12, (height, width, 3))
    return np.clip(light, 0, 255).astype(np.uint8), labels


def write_dataset(folder: Path) -> None:
    """Writes ``train/`` and ``val/`` with ``images/`` and ``labels/`` in each."""
    for split, seeds in (("train", range(TRAIN)), ("val", range(TRAIN, TRAIN + VAL))):
        for kind in ("images", "labels"):
            (folder / split / kind).mkdir(parents=True)
        for seed in seeds:
            for kind, pixels in zip(("images", "labels"), discs(seed), strict=True):
                Image.fromarray(pixels).save(folder / split / kind / f"{seed}.png")


def held_out() -> tuple[bytes, np.ndarray]:
    """An image of no split as PNG, and its classes; wider than high, so that no side is another."""
    pixels, labels = discs(_HELD_OUT, height=_SIDE, width=_SIDE + _SIDE // 2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue(), labels


def dice_of(found: Segmentation, labels: np.ndarray) -> float:
    """Overlap of a mask with what it should be, in [0, 1].

    How well so short a training does is no question of the system; whether the answer fits
    together is.

    Raises:
        CorruptArtifactError: The mask is no image of that size, or not what its summary says.
    """
    try:
        with Image.open(io.BytesIO(found.mask)) as opened:
            mask = np.asarray(opened)
    except OSError as exc:
        raise CorruptArtifactError("the mask is no PNG") from exc
    if mask.shape != labels.shape:
        raise CorruptArtifactError(f"the mask is {mask.shape}, the image {labels.shape}")
    told = {each.index: each.pixels for each in found.summary.classes}
    counted = {index: int((mask == index).sum()) for index in range(len(CLASSES))}
    if told != counted or sum(counted.values()) != mask.size:
        raise CorruptArtifactError(f"the mask's areas are {counted}, its summary says {told}")
    both = int(((mask == 1) & (labels == 1)).sum())
    return 2 * both / max(1, int((mask == 1).sum() + (labels == 1).sum()))
