"""The colour of each class, the same in masks, overlays and pages."""

from __future__ import annotations

# Okabe and Ito's palette (2008), told apart with any colour vision; index 0 is the background.
COLORS = (
    (0, 0, 0),
    (230, 159, 0),
    (0, 158, 115),
    (86, 180, 233),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)


def color(index: int) -> tuple[int, int, int]:
    """Red, green, blue of a class; black is the background, and no other class is black."""
    return COLORS[(index - 1) % (len(COLORS) - 1) + 1] if index else COLORS[0]
