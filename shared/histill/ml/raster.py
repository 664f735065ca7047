"""PNG, JPEG and TIFF files into pixels."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import tifffile
from PIL import JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from histill.core.errors import HistillError, InvalidArgumentError
from histill.ml.images import FIELD, Image, Size, stretched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    from PIL.ImageFile import ImageFile

    from histill.ml.images import Pixels, SourceFormat

# Opened by class and not by Image.open, whose warning about large images is one
# setting for the whole process and below our own limit.
_OPENERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
}
_DIRECT = {"L", "RGB", "RGBA"}
_VIA = {"1": "L", "P": "RGB", "PA": "RGBA", "LA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
_CENTIMETRE = 3
# As tifffile tells them apart.
_SCANNERS = ("svs", "ndpi", "scn", "philips", "bif")
# A tiled TIFF of more pixels is not decoded whole.
_WHOLE = 4096 * 4096


def size(file: BinaryIO, source: SourceFormat) -> Size:
    """The size by the header.

    Raises:
        InvalidArgumentError: The header cannot be read.
    """
    with _damage(source):
        if source == "tiff":
            with tifffile.TiffFile(file) as tiff:
                return _page_size(tiff)
        with _OPENERS[source](file) as opened:
            return Size(opened.height, opened.width)


def may_be_slide(file: BinaryIO) -> bool:
    """Whether a TIFF file is better read tile by tile: a scanner's, or large, tiled and RGB.

    Raises:
        InvalidArgumentError: The header cannot be read.
    """
    with _damage("tiff"), tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages.first
        scanned = any(getattr(tiff, f"is_{scanner}") for scanner in _SCANNERS)
        tiled = page.is_tiled and page.samplesperpixel in {3, 4} and page.dtype == np.uint8
        # Pillow reads no tiles that are missing.
        return scanned or (tiled and (_page_size(tiff).pixels > _WHOLE or 0 in page.databytecounts))


def _page_size(tiff: tifffile.TiffFile) -> Size:
    page: Any = tiff.pages.first
    return Size(int(page.imagelength), int(page.imagewidth))


def decode(file: BinaryIO, source: SourceFormat) -> Image:
    """Decodes a file whose size has been checked.

    Raises:
        InvalidArgumentError: The file is damaged, or of a kind that is not read.
    """
    with _damage(source):
        if source == "tiff":
            return _decode_tiff(file)
        with _OPENERS[source](file) as opened:
            return Image(_from_pillow(opened), None, source)


@contextmanager
def _damage(source: str) -> Iterator[None]:
    """Turns whatever the libraries raise for bad files into words."""
    try:
        yield
    except (HistillError, MemoryError):
        raise
    except Exception as exc:
        # Any kind: a hostile file brings decoders to raise errors of every class. And
        # without the reason's words: they may quote text of the file, which may name people.
        raise InvalidArgumentError.of(
            FIELD,
            f"the {source.upper()} file is truncated, damaged or of a kind that is not read",
        ) from exc


def _from_pillow(opened: ImageFile) -> Pixels:
    opened.load()
    if opened.mode in _DIRECT:
        values = np.asarray(opened)
    elif opened.mode in _VIA:
        values = np.asarray(opened.convert(_VIA[opened.mode]))
    elif opened.mode.startswith(("I", "F")):
        values = stretched(np.asarray(opened))
    else:
        raise InvalidArgumentError.of(FIELD, f"pixels of the kind {opened.mode} are not read")
    return values[..., None] if values.ndim == 2 else values  # noqa: PLR2004 - grey


def _decode_tiff(file: BinaryIO) -> Image:
    """The first page: by Pillow where it can, by tifffile what Pillow does not know.

    tifffile gets uncompressed pages only: it would inflate a small file without bound.
    """
    with tifffile.TiffFile(file) as tiff:
        page: Any = tiff.pages.first
        spacing = _spacing(page)
        plain = page.samplesperpixel in {3, 4} and page.dtype.str[1:] in {"u1", "u2"}
        if not plain and page.samplesperpixel != 1:
            if not page.is_contiguous:
                raise InvalidArgumentError.of(
                    FIELD,
                    f"a TIFF of {page.samplesperpixel} samples a pixel is read only "
                    "uncompressed and without tiles",
                )
            return Image(_from_page(page), spacing, "tiff")
        white_is_zero = page.photometric == 0
    file.seek(0)
    with TiffImagePlugin.TiffImageFile(file) as opened:
        deep = opened.mode.startswith(("I", "F"))
        pixels = _from_pillow(opened)
    # Pillow inverts 8-bit values itself.
    return Image(255 - pixels if white_is_zero and deep else pixels, spacing, "tiff")


def _from_page(page: Any) -> Pixels:
    values: npt.NDArray[Any] = page.asarray()
    axes = page.axes
    if set(axes) - set("YXS") or "Y" not in axes or "X" not in axes:
        raise InvalidArgumentError.of(FIELD, f"TIFF pages with axes {axes} are not read")
    if "S" not in axes:
        axes, values = axes + "S", values[..., None]
    values = values.transpose([axes.index(axis) for axis in "YXS"])
    return values if values.dtype == np.uint8 else stretched(values)


def _spacing(page: Any) -> tuple[float, float] | None:
    """Millimetres a pixel, of a resolution in pixels a centimetre.

    Values in inches are left out: nearly all of them are a printer's default and say
    nothing about the object.
    """
    tags = page.tags
    unit, across, down = (tags.get(n) for n in ("ResolutionUnit", "XResolution", "YResolution"))
    if unit is None or across is None or down is None or int(unit.value) != _CENTIMETRE:
        return None
    rows, columns = (n / d if d else 0.0 for n, d in (down.value, across.value))
    return (10 / rows, 10 / columns) if rows > 0 and columns > 0 else None
