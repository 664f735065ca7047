"""Single objects from a class map, also where they touch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import distance_transform_edt

from histill.ml.components import parts

if TYPE_CHECKING:
    import numpy.typing as npt

    Labels = npt.NDArray[np.int32]

_WITHOUT_CONTOUR, _WITH_CONTOUR = 2, 3
_INSIDE, _CONTOUR = 1, 2
_REACH = 3.0  # pixels from a contour to its object; contours are two pixels wide
_SMALLEST = 10  # pixels


def split_objects(mask: npt.NDArray[Any], *, classes: int) -> Labels:
    """Numbers the objects of a class map.

    With two classes an object is a connected part of the foreground. With three
    (background, inside, contour) it is a connected part of the inside, and each contour
    pixel joins the nearest one within three pixels, so that touching objects stay apart;
    an object that is all contour is not found. Parts of less than ten pixels are dropped.

    Args:
        mask: Class map [H, W].
        classes: Two or three, with the background.

    Returns:
        int32 [H, W]: 0 outside and 1..N inside the objects.
    """
    if classes not in {_WITHOUT_CONTOUR, _WITH_CONTOUR}:
        raise ValueError(f"objects come from two or three classes, not {classes}")
    labels, number = parts(mask == _INSIDE, corners=False)
    if classes == _WITH_CONTOUR and number:
        labels = _joined(labels, mask == _CONTOUR)
    return _without_tiny(labels, number)


def _joined(labels: Labels, contour: npt.NDArray[np.bool_]) -> Labels:
    found: Any = distance_transform_edt(labels == 0, return_indices=True)
    distances, (rows, columns) = found
    return np.where(contour & (distances <= _REACH), labels[rows, columns], labels)


def _without_tiny(labels: Labels, number: int) -> Labels:
    kept = np.bincount(labels.ravel(), minlength=number + 1) >= _SMALLEST
    kept[0] = False
    return (np.cumsum(kept, dtype=np.int32) * kept)[labels]
