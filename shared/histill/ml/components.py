"""Connected parts of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import label

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = npt.NDArray[np.int32]

_WITH_CORNERS = np.ones((3, 3), bool)


def parts(inside: npt.NDArray[np.bool_], *, corners: bool) -> tuple[Labels, int]:
    """Numbers the connected parts of a binary mask.

    Args:
        inside: bool [H, W].
        corners: Whether pixels that meet at a corner are connected (8-connected).

    Returns:
        int32 [H, W] of 0 outside and 1..N inside; N.
    """
    # What SciPy returns depends on arguments that we do not use.
    found: Any = label(inside, structure=_WITH_CORNERS if corners else None)
    labels, number = found
    return labels, int(number)


class ObjectCount:
    """Counts the 8-connected parts of a binary mask that comes some rows at a time.

    Attributes:
        number: Of parts so far, over all images.
    """

    def __init__(self) -> None:
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """Another image follows: nothing in it is connected to what came before."""
        self._last: Labels = np.zeros(0, np.int32)  # which part the pixels of the last row are of

    def add(self, inside: npt.NDArray[np.bool_]) -> None:
        """Counts the next rows, bool [h, W]."""
        if not inside.any():
            self._last = np.zeros(inside.shape[1], np.int32)
            return
        labels, found = parts(inside, corners=True)
        before = int(self._last.max(initial=0))
        pairs = _touching(self._last, labels[0]) if before else np.zeros((2, 0), np.int32)
        # The parts before, then those found, as the nodes of a graph.
        number, group = joined(pairs[0] - 1, before + pairs[1] - 1, nodes=before + found)
        self.number += number - before
        groups = np.concatenate([[0], group[before:] + 1])
        # Numbered anew, from 0 where there is none.
        known, last = np.unique(groups[labels[-1]], return_inverse=True)
        self._last = (last + (known[0] != 0)).astype(np.int32)


def joined(
    ones: npt.NDArray[np.integer], others: npt.NDArray[np.integer], *, nodes: int
) -> tuple[int, npt.NDArray[np.int32]]:
    """Groups of nodes that are linked.

    Args:
        ones: One end of each link, counted from 0, int [N].
        others: The other end, int [N].
        nodes: How many there are.

    Returns:
        How many groups; that of each node, int32 [nodes].
    """
    if not len(ones):
        return nodes, np.arange(nodes, dtype=np.int32)
    # Eleven megabytes, which masks of one piece do without.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(ones), bool), (ones, others)), shape=(nodes, nodes))
    number, group = connected_components(graph, directed=False)
    return int(number), group


def _touching(above: Labels, below: Labels) -> Labels:
    """Pairs of parts, int32 [2, N], that meet between two rows, at corners too."""
    beside = [
        np.stack([above, below]),
        np.stack([above[1:], below[:-1]]),
        np.stack([above[:-1], below[1:]]),
    ]
    pairs = np.concatenate(beside, axis=1)
    return pairs[:, (pairs > 0).all(axis=0)]
