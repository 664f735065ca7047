"""Pixels and those beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def differs_from_neighbour(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels [H, W] that have one of another value above, below, left or right."""
    differs = np.zeros(values.shape, dtype=bool)
    down = values[1:] != values[:-1]
    right = values[:, 1:] != values[:, :-1]
    differs[1:] |= down
    differs[:-1] |= down
    differs[:, 1:] |= right
    differs[:, :-1] |= right
    return differs
