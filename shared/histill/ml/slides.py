"""Whole-slide images by OpenSlide: Aperio, Hamamatsu, Leica, Philips, Ventana, Zeiss, tiled TIFF.

Source: Goode et al., OpenSlide: a vendor-neutral software foundation for digital
pathology, J Pathol Inform 2013.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from histill.core.errors import InvalidArgumentError
from histill.ml.images import FIELD, Size, Slide
from histill.ml.nameless import path_of

if TYPE_CHECKING:
    from histill.ml.images import Pixels

_UM_PER_MM = 1000
_OPAQUE = 255
_WHITE = "FFFFFF"


def open_slide(file: BinaryIO, *, level: int = 0) -> Slide | None:
    """One level of a slide's pyramid; ``None`` where the file is none.

    Args:
        file: Open for reading; the slide does not need it any longer.
        level: 0 is the full resolution.

    Returns:
        A slide of RGB. Where it was not scanned it has its background's colour.

    Raises:
        InvalidArgumentError: It is damaged, or has no such level; names the field.
    """
    # Loads with half a dozen libraries, which those who never send slides need not wait for.
    import openslide

    path, tie = path_of(file)
    try:
        opened = openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        tie(_Gone())
        return None
    except openslide.OpenSlideError as exc:
        tie(_Gone())
        raise _damaged() from exc
    tie(opened)
    if level >= opened.level_count:
        raise InvalidArgumentError.of(
            "selection.level", f"{level}; the slide has the levels 0 to {opened.level_count - 1}"
        )
    width, height = opened.level_dimensions[level]
    scale = opened.level_downsamples[level]
    ground = _background(opened.properties)

    def read(row: int, column: int, height: int, width: int) -> Pixels:
        corner = round(column * scale), round(row * scale)
        try:
            region = np.asarray(opened.read_region(corner, level, (width, height)))
        except openslide.OpenSlideError as exc:
            raise _damaged() from exc
        return _on(ground, region)

    return Slide(Size(height, width), 3, read, _spacing(opened.properties, scale))


class _Gone:
    """An owner that does not live on."""


def _damaged() -> InvalidArgumentError:
    return InvalidArgumentError.of(FIELD, "the slide is truncated, damaged or not supported")


def _on(ground: Pixels, region: Pixels) -> Pixels:
    """RGB of RGBA, before a background."""
    colors, opacity = region[..., :3], region[..., 3]
    if opacity.min() == _OPAQUE:
        return colors
    shown: Pixels = np.where((opacity == 0)[..., None], ground, colors)
    some = (opacity > 0) & (opacity < _OPAQUE)
    if some.any():
        share = opacity[some, None].astype(np.float32) / _OPAQUE
        shown[some] = np.rint(colors[some] * share + ground * (1 - share))
    return shown


def _background(properties: Any) -> Pixels:
    named = properties.get("openslide.background-color", _WHITE)
    return np.frombuffer(bytes.fromhex(named), np.uint8)


def _spacing(properties: Any, scale: float) -> tuple[float, float] | None:
    try:
        rows, columns = (
            float(properties[f"openslide.mpp-{axis}"]) * scale / _UM_PER_MM for axis in "yx"
        )
    except (KeyError, ValueError):
        return None
    return (rows, columns) if rows > 0 and columns > 0 else None
