"""Masks into DICOM SEG, read back by highdicom."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import highdicom as hd
import numpy as np
import pydicom
import pytest

from dicoms import dicom, slide, volume
from histill.core.errors import InvalidArgumentError
from histill.ml import decoding, images, masks
from histill.ml.dicom_seg import dicom_seg
from histill.ml.dicom_slides import open_slide
from histill.ml.masks import Format, MaskContext

if TYPE_CHECKING:
    from pydicom import Dataset

    from histill.ml.images import Picture

# As the service silences them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 4096, (20, 30), dtype=np.uint16)
STACK = RANDOM.integers(0, 4096, (4, 21, 31), dtype=np.uint16)
CLASSES = ("background", "nuclei", "tumour")
# Frames that lie in space, frames that tell so one by one, and a film.
MANY = {
    "volume": volume(STACK),
    "volume by frame": volume(STACK, shared=False),
    "film": dicom(STACK),
}


def decode(data: bytes) -> images.Image:
    return decoding.decode(io.BytesIO(data))


def some(shape: tuple[int, ...]) -> np.ndarray:
    """A mask of two classes, of which the second frame holds nothing."""
    mask = RANDOM.integers(0, 3, shape, dtype=np.uint8)
    if mask.ndim == 3:
        mask[1] = 0
    return mask


def written(mask: np.ndarray, image: Picture, *, empty: bool = False) -> hd.seg.Segmentation:
    context = MaskContext(image, CLASSES, "nuclei@3", empty_frames=empty)
    return hd.seg.segread(io.BytesIO(dicom_seg(mask, context)))


def by_frame(seg: hd.seg.Segmentation, source: Dataset) -> np.ndarray:
    """The mask, as the numbers of the source's frames tell, [F, H, W]."""
    found: np.ndarray = seg.get_pixels_by_source_frame(
        source.SOPInstanceUID,
        range(1, int(source.NumberOfFrames) + 1),
        ignore_spatial_locations=True,
        assert_missing_frames_are_empty=True,
        combine_segments=True,
    )
    return found


def test_a_segmentation_object_refers_to_its_image() -> None:
    """Read back, each segment has its pixels, its name and the source's UIDs."""
    image, mask = decode(dicom(DEEP)), some((20, 30))
    data = masks.encode(mask, Format.DICOM_SEG, MaskContext(image, CLASSES, "nuclei@3"))
    seg = hd.seg.segread(io.BytesIO(data))
    assert image.dicom is not None
    assert seg.StudyInstanceUID == image.dicom.StudyInstanceUID
    assert seg.PatientID == "42"
    assert [seg.get_segment_description(n).segment_label for n in (1, 2)] == list(CLASSES[1:])
    planes = seg.get_pixels_by_source_instance([image.dicom.SOPInstanceUID])
    np.testing.assert_array_equal(planes[0, ..., 0], mask == 1)
    np.testing.assert_array_equal(planes[0, ..., 1], mask == 2)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("kind", MANY)
def test_every_frame_refers_to_its_own(kind: str, *, empty: bool) -> None:
    """Of several frames the mask comes back unchanged; empty ones stand in it when wanted."""
    image, mask = decode(MANY[kind]), some(STACK.shape)
    assert image.dicom is not None
    seg = written(mask, image, empty=empty)
    np.testing.assert_array_equal(by_frame(seg, image.dicom), mask)
    assert seg.NumberOfFrames == (8 if empty else 6)
    for element in seg.iterall():
        if element.keyword == "ReferencedSOPClassUID":
            assert element.value == image.dicom.SOPClassUID


@pytest.mark.parametrize("kind", ["volume", "volume by frame"])
def test_a_volume_stays_where_it_is(kind: str) -> None:
    """Positions, orientation and spacing of its frames are repeated."""
    seg = written(some(STACK.shape), decode(MANY[kind]))
    shared = seg.SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.25]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    places = {
        group.PlanePositionSequence[0].ImagePositionPatient[2]
        for group in seg.PerFrameFunctionalGroupsSequence
    }
    assert places == {0, 4, 6}


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("kind", MANY)
def test_nothing_found_is_a_result_too(kind: str, *, empty: bool) -> None:
    """A SEG has to have frames: those of all segments are written, and hold nothing."""
    image = decode(MANY[kind])
    assert image.dicom is not None
    seg = written(np.zeros(STACK.shape, np.uint8), image, empty=empty)
    assert not by_frame(seg, image.dicom).any()
    assert seg.NumberOfFrames == 8


def test_the_image_is_left_as_it_was() -> None:
    """What is added for the SEG is added to a copy."""
    for data, shape in (*((each, STACK.shape) for each in MANY.values()), (dicom(DEEP), (20, 30))):
        image = decode(data)
        assert image.dicom is not None
        before = image.dicom.to_json()
        written(some(shape), image)
        assert json.loads(image.dicom.to_json()) == json.loads(before)


@pytest.mark.parametrize("missing", [None, (1, 4)])
@pytest.mark.parametrize("empty", [False, True])
def test_a_slide_is_segmented_tile_by_tile(missing: tuple[int, ...] | None, *, empty: bool) -> None:
    """The mask of all its pixels comes back from tiles, and refers to the slide."""
    data = slide(RANDOM.integers(0, 256, (100, 150, 3), dtype=np.uint8), tile=64, missing=missing)
    mask = np.zeros((100, 150), np.uint8)
    mask[10:60, 20:64] = 1
    mask[70:90, 80:140] = 2
    seg = written(mask, open_slide(io.BytesIO(data)), empty=empty)
    np.testing.assert_array_equal(seg.get_total_pixel_matrix(combine_segments=True), mask)
    assert seg.NumberOfFrames == (12 if empty else 3)
    source = pydicom.dcmread(io.BytesIO(data))
    assert seg.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert seg.FrameOfReferenceUID == source.FrameOfReferenceUID


def test_an_image_without_a_place() -> None:
    """A projection is written without axes; so is one whose axes are incomplete."""
    for lacking in ("FrameOfReferenceUID", "ImageOrientationPatient", "PixelSpacing"):
        without: dict[str, Any] = {lacking: None}
        image, mask = decode(dicom(DEEP, **without)), some((20, 30))
        assert image.dicom is not None
        seg = written(mask, image)
        assert "FrameOfReferenceUID" not in seg
        planes = seg.get_pixels_by_source_instance(
            [image.dicom.SOPInstanceUID], combine_segments=True, ignore_spatial_locations=True
        )
        np.testing.assert_array_equal(planes[0], mask)


def test_what_cannot_become_a_segmentation_object() -> None:
    """PNG, a file without a study, and a mask of other frames are errors on ``format``."""
    bare = images.from_raw(bytes(600), height=20, width=30, channels=1)
    with pytest.raises(InvalidArgumentError, match=r"^format: .*needs a DICOM image"):
        masks.check(Format.DICOM_SEG, bare)
    lacking = decode(dicom(DEEP, StudyInstanceUID=None))
    with pytest.raises(InvalidArgumentError, match=r"^format: .*StudyInstanceUID"):
        masks.check(Format.DICOM_SEG, lacking)
    with pytest.raises(InvalidArgumentError, match=r"^format: .* 3 frames, the image 4"):
        written(np.zeros((3, 21, 31), np.uint8), decode(MANY["film"]))
    with pytest.raises(InvalidArgumentError, match=r"^format: "):
        written(np.zeros((20, 29), np.uint8), decode(dicom(DEEP)))
