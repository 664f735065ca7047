"""Outlines of a mask's objects along the edges of its pixels.

A pixel in row r and column c covers [c, c+1] x [r, r+1], as in QuPath, so that a
polygon's area is its number of pixels and filling it gives the pixels back.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from histill.ml import components

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

# Closed: the first point, (x, y), is also the last.
Ring = list[tuple[int, int]]


@dataclass
class Part:
    """One 4-connected part of an object: its outline and its holes."""

    outline: Ring = field(default_factory=list)
    holes: list[Ring] = field(default_factory=list)


def trace(inside: Bools) -> list[list[Part]]:
    """The 8-connected objects of a binary mask.

    Args:
        inside: bool [H, W].

    Returns:
        For each object its 4-connected parts, which meet at corners only. Every ring
        is simple: it meets itself nowhere.
    """
    labels, number = components.parts(inside, corners=False)
    if not number:
        return []
    corners = _corners(inside)
    parts = [Part() for _ in range(number)]
    for walked in _walk(corners):
        pixel, ring_on_right = _beside(walked, inside)
        owner = parts[int(labels[pixel]) - 1]
        for ring in _split(ring_on_right):
            if _area(ring) > 0:
                owner.outline = ring
            else:
                owner.holes.append(ring)
    objects: dict[int, list[Part]] = {}
    for group, part in zip(_objects(labels, number), parts, strict=True):
        objects.setdefault(int(group), []).append(part)
    return list(objects.values())


@dataclass(frozen=True, eq=False)
class _Corners:
    """Every place where an outline turns, and where it goes on from there.

    Attributes:
        x: Column of the vertex.
        y: Row of the vertex.
        along_row: Index of the corner at the other end of the horizontal edge.
        along_column: Index of the corner at the other end of the vertical edge.
    """

    x: Ints
    y: Ints
    along_row: Ints
    along_column: Ints


def _corners(inside: Bools) -> _Corners:
    """Finds the corners, twice where two pixels meet diagonally, and pairs them up.

    Along each row of vertices the corners, from left to right, are the ends of its
    horizontal edges in turn; along each column likewise.
    """
    padded = np.pad(inside, 1)
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    single = nw ^ ne ^ sw ^ se
    falling = nw & se & ~ne & ~sw
    rising = ne & sw & ~nw & ~se
    y, x = np.nonzero(single | falling | rising)
    doubled = (falling | rising)[y, x]
    # Which of two corners at one vertex comes first along the row: the left one. Along
    # the column it is the one above: the same of falling pixels, the other of rising.
    y, x = np.concatenate([y, y[doubled]]), np.concatenate([x, x[doubled]])
    second = np.zeros(len(x), np.int64)
    second[len(doubled) :] = 1
    lower = np.where(rising[y, x], 1 - second, second)
    return _Corners(
        x, y, _partners(np.lexsort((second, x, y))), _partners(np.lexsort((lower, y, x)))
    )


def _partners(order: Ints) -> Ints:
    partners = np.empty_like(order)
    partners[order[::2]] = order[1::2]
    partners[order[1::2]] = order[::2]
    return partners


def _walk(corners: _Corners) -> list[Ring]:
    """Follows the edges, by turns horizontal and vertical, until each ring closes."""
    x, y = corners.x.tolist(), corners.y.tolist()
    along_row, along_column = corners.along_row.tolist(), corners.along_column.tolist()
    seen = bytearray(len(x))
    rings = []
    for first in range(len(x)):
        if seen[first]:
            continue
        ring, here = [], first
        while not seen[here]:
            there = along_row[here]
            seen[here] = seen[there] = 1
            ring += [(x[here], y[here]), (x[there], y[there])]
            here = along_column[there]
        rings.append([*ring, ring[0]])
    return rings


def _beside(ring: Ring, inside: Bools) -> tuple[tuple[int, int], Ring]:
    """A pixel of the object at the ring's first edge, and the ring with it on the right."""
    (x0, y), (x1, _) = ring[:2]
    column = min(x0, x1)
    above = y > 0 and bool(inside[y - 1, column])
    rightwards = x1 > x0
    directed = ring if rightwards != above else ring[::-1]
    return (y - 1 if above else y, column), directed


def _split(ring: Ring) -> list[Ring]:
    """Cuts a ring that meets itself at a vertex into simple rings."""
    rings: list[Ring] = []
    path: Ring = []
    at: dict[tuple[int, int], int] = {}
    for point in ring:
        if point in at:
            rings.append([*path[at[point] :], point])
            for left in path[at[point] + 1 :]:
                del at[left]
            del path[at[point] + 1 :]
        else:
            at[point] = len(path)
            path.append(point)
    return rings


def _area(ring: Ring) -> int:
    """Twice the signed area: positive with the object inside, negative around a hole."""
    return sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring))


def _objects(labels: npt.NDArray[np.int32], number: int) -> npt.NDArray[np.int32]:
    """Which 8-connected object each 4-connected part belongs to."""
    pairs = []
    for a, b in (
        (labels[:-1, :-1], labels[1:, 1:]),
        (labels[:-1, 1:], labels[1:, :-1]),
    ):
        meets = (a > 0) & (b > 0) & (a != b)
        pairs.append(np.stack([a[meets], b[meets]]) - 1)
    ones, others = np.concatenate(pairs, axis=1)
    return components.joined(ones, others, nodes=number)[1]
