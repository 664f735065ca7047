"""Connected parts of a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import label

if TYPE_CHECKING:
    import numpy.typing as npt

_WITH_CORNERS = np.ones((3, 3), bool)


def parts(inside: npt.NDArray[np.bool_], *, corners: bool) -> tuple[npt.NDArray[np.int32], int]:
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
