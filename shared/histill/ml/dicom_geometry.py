"""Where frames of a DICOM image lie in the patient, as a Segmentation must repeat it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset

from histill.ml.dicom import spacing

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_SAME_MM = 1e-4


def changed(dataset: Dataset, **values: Any) -> Dataset:
    """A copy with other values; what is not changed is shared with the original.

    Assigning alone would change the original's element, which a slice shares, too.
    """
    made = dataset[:]
    for name, value in values.items():
        if name in made:
            delattr(made, name)
        setattr(made, name, value)
    return made


def with_shared_geometry(header: Dataset) -> Dataset:
    """A header whose frames share what is the same in all of them.

    Scanners write orientation and spacing with each frame as often as once for all.
    Slices also get a thickness: of a projection there is none, yet readers of SEG want
    one, so it is a nominal millimetre.

    Args:
        header: Left as it is.
    """
    made = _thick(header)
    own = header.get(_PER_FRAME) or []
    if not own:
        return made
    shared = (header.get(_SHARED) or [Dataset()])[0]
    for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
        found = [group.get(name) for group in own]
        if name not in shared and found[0] and all(each == found[0] for each in found):
            shared = changed(shared, **{name: found[0]})
    if measures := shared.get("PixelMeasuresSequence"):
        shared = changed(shared, PixelMeasuresSequence=[_thick(measures[0])])
    return changed(made, **{_SHARED: [shared]})


def is_volume(header: Dataset) -> bool:
    """Whether all frames lie parallel, each in a place of its own, and the file tells where.

    Args:
        header: As ``with_shared_geometry`` makes it.
    """
    if not header.get("FrameOfReferenceUID") or spacing(header) is None:
        return False
    if own := header.get(_PER_FRAME):
        orientation = _first(header[_SHARED][0], "PlaneOrientationSequence")
        positions = [_first(group, "PlanePositionSequence") for group in own]
    else:
        orientation, positions = header, [header]
    cosines = orientation.get("ImageOrientationPatient")
    places = [each.get("ImagePositionPatient") for each in positions]
    if not cosines or not all(places):
        return False
    return len(_distances(cosines, places)) == int(header.get("NumberOfFrames") or 1)


def _thick(slices: Dataset) -> Dataset:
    """A copy, since highdicom adds to what it is given."""
    return changed(slices, SliceThickness=slices.get("SliceThickness") or 1)


def _first(group: Dataset, name: str) -> Dataset:
    found: Dataset = (group.get(name) or [Dataset()])[0]
    return found


def _distances(cosines: Any, places: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Different distances of frames along their normal, [at most F]."""
    right, down = np.array(cosines, np.float64).reshape(2, 3)
    along = np.array(places, np.float64) @ np.cross(right, down)
    return np.unique(np.round(along / _SAME_MM))
