"""Measures a served model on held-out images, through the inference service."""

from __future__ import annotations

import io
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from histill.core.manifests import ONNX
from histill.ml.metrics import score_image, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from histill.api.registry.v1 import model_pb2
    from histill.client import Client

    Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Held:
    """One held-out image: its file, and its reference as uint8 [H, W] of class indices."""

    image: Path
    reference: Mask


@dataclass(frozen=True)
class Row:
    """One model's line in the table.

    Attributes:
        dice: Over all pixels of the images, mean of the foreground classes, in [0, 1].
        iou: The same of the intersection over union.
        milliseconds: Median over the images, from call to answer, after one warm-up.
        masks: What the service answered, one an image.
    """

    model: model_pb2.Model
    onnx_bytes: int
    dice: float
    iou: float
    milliseconds: float
    masks: list[Mask]


def held_out(pairs: Sequence[tuple[Path, Path]], *, classes: int) -> list[Held]:
    """Reads references; where values are object numbers, every object is class 1."""
    labels = [_read(label) for _, label in pairs]
    numbered = any(int(label.max()) >= classes for label in labels)
    return [
        Held(image, (label > 0 if numbered else label).astype(np.uint8))
        for (image, _), label in zip(pairs, labels, strict=True)
    ]


def _read(path: Path) -> npt.NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def measure(client: Client, reference: str, images: Sequence[Held], *, classes: int) -> Row:
    """Segments the images one after the other and compares the masks with the references."""
    model = client.models.get(reference)
    client.segment(images[0].image, model=model.reference)
    masks, milliseconds = [], []
    for held in images:
        data = held.image.read_bytes()
        start = time.perf_counter()
        found = client.segment(data, model=model.reference)
        milliseconds.append(1000 * (time.perf_counter() - start))
        masks.append(decode_mask(found.mask))
    scores = summarize(
        score_image(mask, held.reference, classes=classes, surfaces=False)
        for mask, held in zip(masks, images, strict=True)
    )
    onnx = next(file.size_bytes for file in model.files if file.path == ONNX)
    return Row(model, onnx, scores.dice, scores.iou, statistics.median(milliseconds), masks)


def decode_mask(png: bytes) -> Mask:
    """Class indices uint8 [H, W] of an indexed PNG."""
    with Image.open(io.BytesIO(png)) as image:
        values: npt.NDArray[Any] = np.asarray(image)
    return values.astype(np.uint8)
