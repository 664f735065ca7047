"""Writes masks: indexed PNG, GeoJSON, COCO run lengths, DICOM SEG, raw bytes."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Pillow
from pycocotools import mask as coco

from histill.ml import geojson
from histill.ml.colors import color
from histill.ml.geojson import PLAIN, Outlines

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.ml.images import Image

# Level 1 writes in a fifth of level 6's time and a tenth more bytes.
_PNG_LEVEL = 1


class Format(StrEnum):
    """How a mask is written."""

    PNG = "png"
    GEOJSON = "geojson"
    RLE = "rle"
    DICOM_SEG = "dicom-seg"
    RAW = "raw"


@dataclass(frozen=True, eq=False)
class MaskContext:
    """What a writer needs besides the mask.

    Attributes:
        image: What was segmented.
        classes: Names; the index is the value in the mask.
        model: Reference of the model, ``name@version``.
        outlines: How GeoJSON is written.
    """

    image: Image
    classes: tuple[str, ...]
    model: str
    outlines: Outlines = PLAIN


def check(form: Format, image: Image, outlines: Outlines = PLAIN) -> None:
    """Finds out before the work whether an image's mask can be written in a format.

    Raises:
        InvalidArgumentError: It cannot; names the field ``format`` or one in ``geojson``.
    """
    if form is Format.GEOJSON:
        geojson.check_units(outlines, image.spacing)
    if form is Format.DICOM_SEG:
        from histill.ml.dicom_seg import source_of

        source_of(image)


def encode(mask: npt.NDArray[np.uint8], form: Format, context: MaskContext) -> bytes:
    """A mask as the bytes of a file.

    Args:
        mask: Class indices, uint8 [H, W].
        form: How to write it.
        context: Names, and the image that DICOM SEG refers to.

    Raises:
        InvalidArgumentError: DICOM SEG of an image that is not DICOM; names ``format``.
    """
    match form:
        case Format.PNG:
            return png(mask)
        case Format.GEOJSON:
            return geojson.geojson(mask, context.classes, context.outlines, context.image.spacing)
        case Format.RLE:
            return rle(mask, context.classes)
        case Format.DICOM_SEG:
            from histill.ml.dicom_seg import dicom_seg

            return dicom_seg(mask, context)
        case Format.RAW:
            return mask.tobytes()


def png(mask: npt.NDArray[np.uint8]) -> bytes:
    """An indexed 8-bit PNG: values are class indices, the palette their colours."""
    picture = Pillow.fromarray(mask)
    picture.putpalette([value for index in range(256) for value in color(index)])
    return _saved(picture)


def confidence_png(confidence: npt.NDArray[np.floating]) -> bytes:
    """Probabilities in [0, 1], [H, W], as a grey PNG of 0..255."""
    grey = np.rint(confidence * confidence.dtype.type(255)).astype(np.uint8)
    return _saved(Pillow.fromarray(grey))


def _saved(picture: Pillow.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=_PNG_LEVEL)
    return out.getvalue()


def rle(mask: npt.NDArray[np.uint8], classes: tuple[str, ...]) -> bytes:
    """A JSON list of COCO annotations, one for each class but the background.

    ``segmentation`` is what ``pycocotools.mask.decode`` takes; ``bbox`` is x, y,
    width, height in pixels.
    """
    annotations = []
    for index, name in enumerate(classes):
        if not index:
            continue
        runs: Any = coco.encode(np.asfortranarray(mask == index, dtype=np.uint8))
        annotations.append(
            {
                "category_id": index,
                "category_name": name,
                "segmentation": {"size": list(mask.shape), "counts": runs["counts"].decode()},
                "area": int(coco.area(runs)),
                "bbox": [int(value) for value in coco.toBbox(runs)],
                "iscrowd": 1,
            }
        )
    return json.dumps(annotations, separators=(",", ":")).encode()
