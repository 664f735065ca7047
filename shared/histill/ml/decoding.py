"""Image files into pixels: what a file is, whether it is too large, and what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from histill.core.errors import InvalidArgumentError
from histill.ml import dicom, dicom_slides, raster, slides
from histill.ml.images import (
    FIELD,
    MAX_PIXELS,
    MAX_SLIDE_PIXELS,
    WHOLE_FILE,
    Image,
    Slide,
    checked,
)

if TYPE_CHECKING:
    from pydicom import Dataset

    from histill.ml.images import Selection, Size, SourceFormat

_SUPPORTED = (
    "send a PNG, JPEG, TIFF or DICOM file, or a slide (SVS, NDPI, SCN, BIF, CZI, Philips or tiled "
    "TIFF, DICOM)"
)


def sniff(file: BinaryIO) -> SourceFormat:
    """The format of a file by its first bytes; the position is put back to 0.

    Raises:
        InvalidArgumentError: It is empty, or no format that we read.
    """
    file.seek(0)
    head = file.read(132)
    file.seek(0)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    # Before TIFF: a DICOM file may begin with a TIFF header, to be readable as either.
    if head[128:] == b"DICM":
        return "dicom"
    if head.startswith(b"ZISRAWFILE"):
        return "slide"
    if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "tiff"
    what = "an unknown format" if head else "an empty file"
    raise InvalidArgumentError.of(FIELD, f"{what}; {_SUPPORTED}")


def probe(
    file: BinaryIO,
    selection: Selection = WHOLE_FILE,
    *,
    max_pixels: int = MAX_PIXELS,
    max_slide_pixels: int = MAX_SLIDE_PIXELS,
) -> Size | Slide:
    """Reads the size from the header, without decoding; opens what is read by regions.

    Args:
        file: Open for reading, seekable.
        selection: Which of several images.
        max_pixels: Most rows times columns of an image that is decoded whole.
        max_slide_pixels: Most rows times columns of a slide.

    Raises:
        InvalidArgumentError: The header cannot be read, or there is no such image.
        ResourceExhaustedError: The image is too large.
    """
    source = sniff(file)
    header = dicom.header(file) if source == "dicom" else None
    if slide := _slide(file, source, selection, header):
        if selection.frame > 1:
            raise InvalidArgumentError.of(
                "selection.frame", f"{selection.frame}; a slide has levels, and no frames"
            )
        checked(slide.size, max_pixels=max_slide_pixels)
        return slide
    if selection.level:
        raise InvalidArgumentError.of(
            "selection.level", f"{selection.level}; the file has one level only, which is 0"
        )
    if header is not None:
        return checked(dicom.frame_size(header), max_pixels=max_pixels)
    if selection.frame > 1:
        raise InvalidArgumentError.of(
            "selection.frame", f"{selection.frame}; only a DICOM file has several frames"
        )
    return checked(raster.size(file, source), max_pixels=max_pixels)


def decode(
    file: BinaryIO, selection: Selection = WHOLE_FILE, *, max_pixels: int = MAX_PIXELS
) -> Image:
    """Decodes a PNG, JPEG, TIFF or DICOM file.

    Deeper than 8 bit, grey values are stretched from their minimum and maximum to
    0..255, and of colours the upper 8 bits are taken. Of several pages or frames the
    first is taken, unless a frame is selected. Pixels stay as they are stored: an
    orientation tag is not applied. A slide is decoded too, if it is small enough.

    Args:
        file: Open for reading, seekable.
        selection: Which of several images.
        max_pixels: Most rows times columns; checked before pixels are decoded.

    Raises:
        InvalidArgumentError: It is no such file, or damaged; names the field ``image``.
        ResourceExhaustedError: The image is too large.
    """
    found = probe(file, selection, max_pixels=max_pixels, max_slide_pixels=max_pixels)
    if isinstance(found, Slide):
        return whole(found)
    source = sniff(file)
    if source == "dicom":
        return dicom.decode(file, selection.frame)
    return raster.decode(file, source)


def whole(slide: Slide) -> Image:
    """A slide that is small enough, decoded.

    Raises:
        InvalidArgumentError: It is damaged; names the field ``image``.
    """
    pixels = slide.read(0, 0, slide.size.height, slide.size.width)
    return Image(pixels, slide.spacing, slide.source, slide.dicom)


def _slide(
    file: BinaryIO, source: SourceFormat, selection: Selection, header: Dataset | None
) -> Slide | None:
    """What is read by regions; ``None`` where the file is not."""
    if header is not None and not selection.level and dicom_slides.is_slide(header):
        return dicom_slides.open_slide(file)
    if source not in {"slide", "tiff"}:
        return None
    may_be = source == "slide" or selection.level > 0 or raster.may_be_slide(file)
    slide = slides.open_slide(file, level=selection.level) if may_be else None
    file.seek(0)
    if slide is None and source == "slide":
        raise InvalidArgumentError.of(FIELD, f"a slide of an unknown kind; {_SUPPORTED}")
    return slide
