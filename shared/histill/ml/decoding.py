"""Image files into pixels: what a file is, whether it is too large, and what it shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from histill.core.errors import InvalidArgumentError
from histill.ml import dicom, raster
from histill.ml.images import FIELD, MAX_PIXELS, checked

if TYPE_CHECKING:
    from histill.ml.images import Image, Size, SourceFormat

_SUPPORTED = "send a PNG, JPEG, TIFF or DICOM file"


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
    if head[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return "tiff"
    what = "an unknown format" if head else "an empty file"
    raise InvalidArgumentError.of(FIELD, f"{what}; {_SUPPORTED}")


def probe(file: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Size:
    """Reads the size from the header, without decoding.

    Args:
        file: Open for reading, seekable.
        max_pixels: Most rows times columns that are accepted.

    Raises:
        InvalidArgumentError: The header cannot be read.
        ResourceExhaustedError: The image is too large.
    """
    source = sniff(file)
    size = dicom.size(file) if source == "dicom" else raster.size(file, source)
    return checked(size, max_pixels=max_pixels)


def decode(file: BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decodes a PNG, JPEG, TIFF or DICOM file.

    Deeper than 8 bit, grey values are stretched from their minimum and maximum to
    0..255, and of colours the upper 8 bits are taken. Of several pages or frames the
    first is taken. Pixels stay as they are stored: an orientation tag is not applied.

    Args:
        file: Open for reading, seekable.
        max_pixels: Most rows times columns; checked before pixels are decoded.

    Raises:
        InvalidArgumentError: It is no such file, or damaged; names the field ``image``.
        ResourceExhaustedError: The image is too large.
    """
    probe(file, max_pixels=max_pixels)
    source = sniff(file)
    return dicom.decode(file) if source == "dicom" else raster.decode(file, source)
