"""Segmentations of frames that have no place of their own: films, captures, series in time.

highdicom writes several frames of what lies in space only. Here it writes one, and the
others are added to it; each refers to its frame of the image by number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from histill.ml.dicom import spacing
from histill.ml.dicom_geometry import changed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

_PLACES = (
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "PerFrameFunctionalGroupsSequence",
    "PixelSpacing",
    "SharedFunctionalGroupsSequence",
)
_SEGMENT_POINTER, _SEGMENT_GROUP = 0x0062000B, 0x0062000A
_FRAME_POINTER, _FRAME_GROUP = 0x00209057, 0x00209111


def without_places(header: Dataset) -> Dataset:
    """The header of an image of one frame that lies nowhere, for ``refer`` to put right."""
    made = header[:]
    for name in _PLACES:
        if name in made:
            delattr(made, name)
    if found := spacing(header):
        made = changed(made, PixelSpacing=list(found))
    # Others must have functional groups, which are gone.
    return changed(made, SOPClassUID=SecondaryCaptureImageStorage)


def refer(seg: Dataset, header: Dataset) -> None:
    """Puts right what kind of image a SEG made ``without_places`` refers to."""
    for element in seg.iterall():
        if element.keyword == "ReferencedSOPClassUID":
            element.value = header.SOPClassUID


def spread(seg: Dataset, mask: npt.NDArray[np.uint8], *, empty_frames: bool) -> None:
    """Makes a SEG of one frame of an image into one of all of them.

    Args:
        seg: Made of one frame; changed.
        mask: Class indices, uint8 [F, H, W].
        empty_frames: Keep frames in which nothing of a segment was found.
    """
    segments = [int(each.SegmentNumber) for each in seg.SegmentSequence]
    every = [(segment, frame) for segment in segments for frame in range(len(mask))]
    kept = every if empty_frames else [(s, f) for s, f in every if (mask[f] == s).any()]
    # A SEG without frames is not valid: nothing found is written as all of them.
    kept = kept or every
    organization = seg.DimensionOrganizationSequence[0].DimensionOrganizationUID
    seg.DimensionIndexSequence = [
        _dimension(organization, _SEGMENT_POINTER, _SEGMENT_GROUP),
        _dimension(organization, _FRAME_POINTER, _FRAME_GROUP),
    ]
    derivation = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    shared = seg.SharedFunctionalGroupsSequence[0]
    if "SegmentIdentificationSequence" in shared:
        del shared.SegmentIdentificationSequence
    seg.PerFrameFunctionalGroupsSequence = [_group(derivation, *each) for each in kept]
    seg.NumberOfFrames = len(kept)
    seg.PixelData = b"".join(_packed(mask[frame] == segment for segment, frame in kept))


def _dimension(organization: str, pointer: int, group: int) -> Dataset:
    made = Dataset()
    made.DimensionOrganizationUID = organization
    made.DimensionIndexPointer = pointer
    made.FunctionalGroupPointer = group
    return made


def _group(derivation: Dataset, segment: int, frame: int) -> Dataset:
    """Functional groups of a frame, counted from 0."""
    content = Dataset()
    content.StackID = "1"
    content.InStackPositionNumber = frame + 1
    content.DimensionIndexValues = [segment, frame + 1]
    identification = Dataset()
    identification.ReferencedSegmentNumber = segment
    source = changed(derivation.SourceImageSequence[0], ReferencedFrameNumber=frame + 1)
    made = Dataset()
    made.FrameContentSequence = [content]
    made.SegmentIdentificationSequence = [identification]
    made.DerivationImageSequence = [changed(derivation, SourceImageSequence=[source])]
    return made


def _packed(planes: Iterable[npt.NDArray[np.bool_]]) -> Iterator[bytes]:
    """Bits of bool [H, W] one after the other, without a gap between frames."""
    rest, total = np.empty(0, bool), 0
    for plane in planes:
        bits = np.concatenate([rest, plane.ravel()])
        whole = len(bits) // 8 * 8
        rest = bits[whole:]
        total += whole // 8
        yield np.packbits(bits[:whole], bitorder="little").tobytes()
    last = np.packbits(rest, bitorder="little").tobytes()
    # Values have an even number of bytes.
    yield last + b"\0" * ((total + len(last)) % 2)
