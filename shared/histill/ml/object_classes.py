"""The class map of numbered objects, as training, audits and benchmarks make it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from histill.ml.neighbours import differs_from_neighbour

if TYPE_CHECKING:
    import numpy.typing as npt

_WITHOUT_CONTOUR = 2
_CONTOUR_PX = 2


def object_classes(labels: npt.NDArray[Any], *, classes: int) -> npt.NDArray[np.uint8]:
    """The class map of numbered objects: what ``histill.ml.objects.split_objects`` undoes.

    Args:
        labels: Integers [H, W]; 0 is the background.
        classes: Two: an object's pixels become 1. Three: its outer two pixels become 2
            (contour) and the rest 1 (inside), so that touching objects stay apart.

    Returns:
        uint8 [H, W].
    """
    inside = labels > 0
    if classes == _WITHOUT_CONTOUR:
        return inside.astype(np.uint8)
    contour = differs_from_neighbour(labels)
    for _ in range(_CONTOUR_PX - 1):
        contour = contour | differs_from_neighbour(contour)
    return inside.astype(np.uint8) + (inside & contour).astype(np.uint8)
