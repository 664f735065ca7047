"""The colour of each class, the same in masks, overlays and pages; no two classes share one."""

from __future__ import annotations

import colorsys
import math

# Okabe and Ito's palette (2008), told apart with any colour vision; index 0 is the background.
_FIRST = (
    (0, 0, 0),
    (230, 159, 0),
    (0, 158, 115),
    (86, 180, 233),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
# A share of the circle of hues: however many steps of it are made, they lie far apart.
_GOLDEN_ANGLE = (3 - math.sqrt(5)) / 2
# Of some orders that were tried, one that keeps the nearest two of 32 classes farthest apart.
_LIGHTNESSES = (0.4, 0.6, 0.5, 0.3, 0.7)
_SATURATIONS = (1.0, 0.7, 0.4)


def _further(number: int) -> tuple[int, int, int]:
    """A colour after the first ones, counted from 0.

    Each hue lies a golden angle from the one before. Lightness and saturation take turns, so
    that those which come round to nearly the same hue differ too.
    """
    channels = colorsys.hls_to_rgb(
        number * _GOLDEN_ANGLE % 1,
        _LIGHTNESSES[number % len(_LIGHTNESSES)],
        _SATURATIONS[number % len(_SATURATIONS)],
    )
    red, green, blue = (round(255 * each) for each in channels)
    return red, green, blue


COLORS = _FIRST + tuple(_further(number) for number in range(256 - len(_FIRST)))


def color(index: int) -> tuple[int, int, int]:
    """Red, green, blue of a class in [0, 255]; black is the background and no other class."""
    return COLORS[index]
