"""Three regions of an image: background, boundary, inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histill.distill.boundary import boundary_distance

if TYPE_CHECKING:
    import numpy.typing as npt

REGIONS = ("background", "boundary", "inside")


def regions(target: npt.NDArray[np.uint8], *, band: float) -> npt.NDArray[np.intp]:
    """Index into ``REGIONS`` of each pixel.

    Args:
        target: Class map [H, W].
        band: Pixels within this distance of a class boundary are boundary.

    Returns:
        intp [H, W].
    """
    found = np.where(target > 0, 2, 0)
    found[boundary_distance(target) <= band] = 1
    return found.astype(np.intp)
