"""Images of the report: an image, its masks, and where they differ."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from histill.ml.colors import COLORS, color
from histill.ml.neighbours import differs_from_neighbour

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

MISSED, EXTRA, CONFUSED = COLORS[6], COLORS[7], COLORS[4]  # blue, vermilion, reddish purple
_PALETTE = np.array([color(index) for index in range(256)], np.float32)
_FILL = 0.3
_ERROR_FILL = 0.85
_DIM = 0.6  # of the image beneath errors
_SIDE = 512  # pixels, at most
_SMALL = 256  # smaller images are blown up to about this
_QUALITY = 90


def jpeg(pixels: Pixels) -> bytes:
    """An RGB image [H, W, 3] as JPEG; a small one is blown up by a whole number."""
    times = max(1, _SMALL // max(pixels.shape[:2]))
    shown = pixels.repeat(times, axis=0).repeat(times, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def fitted(image: Pixels, *masks: Pixels) -> tuple[Pixels, ...]:
    """An image as RGB and masks, reduced by a whole number to 512 pixels a side at most.

    Args:
        image: uint8 [H, W, C]; of other numbers of channels than three and four the
            first is shown.
        masks: uint8 [H, W].
    """
    factor = -(-max(image.shape[:2]) // _SIDE)
    seen = image[..., :3] if image.shape[2] in {3, 4} else image[..., :1].repeat(3, axis=2)
    reduced: Any = Image.fromarray(np.ascontiguousarray(seen)).reduce(factor)
    height, width = reduced.height, reduced.width
    small = [mask[::factor, ::factor][:height, :width] for mask in masks]
    return np.asarray(reduced, dtype=np.uint8), *small


def overlay(image: Pixels, mask: Pixels) -> Pixels:
    """An image with its foreground classes tinted and outlined.

    Args:
        image: uint8 [H, W, 3].
        mask: Class map [H, W].

    Returns:
        uint8 [H, W, 3].
    """
    tint = _PALETTE[mask]
    opacity = np.where(differs_from_neighbour(mask), 1.0, _FILL) * (mask > 0)
    return _mixed(image, tint, opacity)


def errors(image: Pixels, mask: Pixels, target: Pixels) -> Pixels:
    """A dimmed grey image with wrong pixels in colour.

    Args:
        image: uint8 [H, W, 3].
        mask: Predicted class map [H, W].
        target: Class map [H, W]; missed pixels become ``MISSED``, extra ones ``EXTRA``,
            those of another foreground class ``CONFUSED``.

    Returns:
        uint8 [H, W, 3].
    """
    kinds = [(target > 0) & (mask == 0), (target == 0) & (mask > 0), mask != target]
    tint = np.zeros(image.shape, np.float32)
    for wrong, shade in list(zip(kinds, (MISSED, EXTRA, CONFUSED), strict=True))[::-1]:
        tint[wrong] = shade
    grey = (image.mean(axis=2, keepdims=True) * _DIM + 255 * (1 - _DIM)).repeat(3, axis=2)
    return _mixed(grey, tint, _ERROR_FILL * (mask != target))


def _mixed(below: npt.NDArray[Any], tint: npt.NDArray[Any], opacity: npt.NDArray[Any]) -> Pixels:
    share = opacity[..., None]
    return np.asarray((below * (1 - share) + tint * share).round(), dtype=np.uint8)
