"""Writes masks: indexed PNG, GeoJSON, COCO run lengths, DICOM SEG, raw bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from pycocotools import mask as coco

from histill.core.errors import InvalidArgumentError
from histill.ml import geojson
from histill.ml.features import FeatureStream
from histill.ml.geojson import PLAIN, Outlines
from histill.ml.images import MAX_PIXELS, Size
from histill.ml.png import PngStream

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from histill.ml.images import Picture


class Format(StrEnum):
    """How a mask is written."""

    PNG = "png"
    GEOJSON = "geojson"
    RLE = "rle"
    DICOM_SEG = "dicom-seg"
    RAW = "raw"


_BAND_PIXELS = 1 << 18
# Their masks are written when all of it is there.
HELD_WHOLE = frozenset({Format.RLE, Format.DICOM_SEG})


@dataclass(frozen=True, eq=False)
class MaskContext:
    """What a writer needs besides the mask.

    Attributes:
        image: What was segmented.
        classes: Names; the index is the value in the mask.
        model: Reference of the model, ``name@version``.
        outlines: How GeoJSON is written.
        empty_frames: Write frames of DICOM SEG in which nothing was found, too.
        most_held: Most pixels of the mask that are held at a time.
    """

    image: Picture
    classes: tuple[str, ...]
    model: str
    outlines: Outlines = PLAIN
    empty_frames: bool = False
    most_held: int = MAX_PIXELS


def check(form: Format, image: Picture, outlines: Outlines = PLAIN) -> None:
    """Finds out before the work whether an image's mask can be written in a format.

    Raises:
        InvalidArgumentError: It cannot; names the field ``format`` or one in ``geojson``.
    """
    if form is Format.GEOJSON:
        geojson.check_units(outlines, image.spacing)
    if form is Format.DICOM_SEG:
        if image.origin is not None:
            if image.origin.no_segmentation:
                raise InvalidArgumentError(*image.origin.no_segmentation)
            return
        if image.dicom is None:
            raise InvalidArgumentError.of(
                "format", "MASK_FORMAT_DICOM_SEG needs a DICOM image; ask for another format"
            )
        from histill.ml.dicom_seg import source_of

        source_of(image)


class Writer(Protocol):
    """Writes a mask while its rows come."""

    def add(self, rows: npt.NDArray[np.uint8]) -> bytes:
        """The file's next bytes, of class indices, uint8 [h, W]."""
        ...

    def end(self) -> bytes:
        """The file's last bytes, after the last row."""
        ...


def writer(form: Format, context: MaskContext) -> Writer:
    """What writes the mask of an image, or, as DICOM SEG, of one frame after the other.

    PNG and raw bytes are handed out at once and GeoJSON object by object; the others hold
    the mask whole.

    Args:
        form: How to write it.
        context: Names, and the image that was segmented.
    """
    match form:
        case Format.PNG:
            return PngStream(context.image.size)
        case Format.GEOJSON:
            return FeatureStream(
                context.image.size.height,
                context.classes,
                context.outlines,
                context.image.spacing,
                most_held=context.most_held,
            )
        case Format.RAW:
            return _Raw()
        case Format.RLE:
            return _Whole(lambda mask: rle(mask, context.classes))
        case Format.DICOM_SEG:
            return _Whole(partial(_dicom_seg, context))


def encode(mask: npt.NDArray[np.uint8], form: Format, context: MaskContext) -> bytes:
    """A mask as the bytes of a file.

    Args:
        mask: Class indices, uint8 [H, W].
        form: How to write it.
        context: Names, and the image that DICOM SEG refers to.

    Raises:
        InvalidArgumentError: DICOM SEG of an image that is not DICOM; names ``format``.
    """
    made = writer(form, context)
    return made.add(mask) + made.end()


class _Raw:
    """Bytes of the rows."""

    def add(self, rows: npt.NDArray[np.uint8]) -> bytes:
        return rows.tobytes()

    def end(self) -> bytes:
        return b""


class _Whole:
    """Rows that wait until all are there."""

    def __init__(self, write: Callable[[npt.NDArray[np.uint8]], bytes]) -> None:
        self._write = write
        self._rows: list[npt.NDArray[np.uint8]] = []

    def add(self, rows: npt.NDArray[np.uint8]) -> bytes:
        self._rows.append(rows)
        return b""

    def end(self) -> bytes:
        rows, self._rows = self._rows, []
        return self._write(rows[0] if len(rows) == 1 else np.concatenate(rows))


def _dicom_seg(context: MaskContext, rows: npt.NDArray[np.uint8]) -> bytes:
    height, width = rows.shape
    frames = height // context.image.size.height
    # Of one frame there is no axis for frames.
    mask = rows.reshape(frames, -1, width) if frames > 1 else rows
    if context.image.origin is not None:
        return context.image.origin.segmentation(mask, context)
    from histill.ml.dicom_seg import dicom_seg

    return dicom_seg(mask, context)


def png(mask: npt.NDArray[np.uint8]) -> bytes:
    """An indexed 8-bit PNG: values are class indices, the palette their colours."""
    stream = PngStream(Size(*mask.shape))
    return stream.add(mask) + stream.end()


def confidence_png(confidence: npt.NDArray[np.floating]) -> bytes:
    """Probabilities in [0, 1], [H, W], as a grey PNG of 0..255."""
    size = Size(*confidence.shape)
    stream, written = PngStream(size, palette=False), []
    # In bands: a processor does not compute in float16, and float32 takes twice the memory.
    height = max(1, _BAND_PIXELS // size.width)
    for start in range(0, size.height, height):
        band = np.multiply(confidence[start : start + height], np.float32(255), dtype=np.float32)
        written.append(stream.add(np.rint(band, out=band).astype(np.uint8)))
    return b"".join([*written, stream.end()])


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
