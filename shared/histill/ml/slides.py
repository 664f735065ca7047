"""Whole-slide images by OpenSlide: Aperio, Hamamatsu, Leica, Philips, Ventana, Zeiss, tiled TIFF.

Source: Goode et al., OpenSlide: a vendor-neutral software foundation for digital
pathology, J Pathol Inform 2013.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from histill.core.errors import InvalidArgumentError
from histill.ml.images import FIELD, Size, Slide
from histill.ml.nameless import path_of

if TYPE_CHECKING:
    from histill.ml.images import Pixels, Reading

_UM_PER_MM = 1000
_OPAQUE = 255
_WHITE = "FFFFFF"
_BLOCK, _BLOCKS = 512, 32  # side, and how many are kept: two rows of some tiles


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

    size = Size(height, width)
    exact = scale == round(scale)
    return Slide(
        size, 3, read if exact else _by_blocks(read, size), _spacing(opened.properties, scale)
    )


def _by_blocks(read: Reading, size: Size) -> Reading:
    """Reads whole blocks of one grid, so that a pixel is the same in every region.

    OpenSlide places regions by pixels of the full resolution. Where those of a level are no
    whole number of them it interpolates, each time by another fraction of a pixel.
    """

    @lru_cache(_BLOCKS)
    def block(down: int, across: int) -> Pixels:
        row, column = down * _BLOCK, across * _BLOCK
        return read(row, column, min(_BLOCK, size.height - row), min(_BLOCK, size.width - column))

    def pieced(row: int, column: int, height: int, width: int) -> Pixels:
        downs = range(row // _BLOCK, (row + height - 1) // _BLOCK + 1)
        acrosses = range(column // _BLOCK, (column + width - 1) // _BLOCK + 1)
        joined = np.concatenate(
            [np.concatenate([block(d, a) for a in acrosses], axis=1) for d in downs]
        )
        top, left = row - downs[0] * _BLOCK, column - acrosses[0] * _BLOCK
        return joined[top : top + height, left : left + width]

    return pieced


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
    return (rows, columns) if 0 < rows < math.inf and 0 < columns < math.inf else None
