"""Writes a mask as a DICOM Segmentation object that refers to its image."""

from __future__ import annotations

import io
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from histill.core.errors import InvalidArgumentError
from histill.ml.dicom import damage, frames
from histill.ml.dicom_cine import refer, spread, without_places
from histill.ml.dicom_geometry import changed, is_volume, with_shared_geometry
from histill.ml.dicom_slides import is_slide

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pydicom import Dataset

    from histill.ml.images import Picture
    from histill.ml.masks import MaskContext

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_NEEDED_OF_SLIDES = (
    "FrameOfReferenceUID",
    "ImageOrientationSlide",
    "SharedFunctionalGroupsSequence",
    "TotalPixelMatrixOriginSequence",
)
# What a SEG repeats, and what may be empty in it.
_REPEATED = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
_PIXELS = 0x7FE00000


def source_of(image: Picture) -> Dataset:
    """The data set that a SEG of an image refers to.

    Raises:
        InvalidArgumentError: It is not DICOM, or lacks what a SEG must repeat of it; names
            the field ``format``.
    """
    if image.dicom is None:
        raise _refused("MASK_FORMAT_DICOM_SEG needs a DICOM image; ask for another format")
    needed = _NEEDED + (_NEEDED_OF_SLIDES if is_slide(image.dicom) else ())
    with damage():
        lacking = [name for name in needed if not image.dicom.get(name)]
    if lacking:
        raise _refused(f"the DICOM image lacks what a segmentation must repeat: {lacking[0]}")
    return image.dicom


def dicom_seg(mask: npt.NDArray[np.uint8], context: MaskContext) -> bytes:
    """A binary SEG with a segment for each class but the background.

    Each of its frames refers to the frame of the image that it came from. Frames in which
    nothing of a segment was found are left out, unless ``context.empty_frames`` wants
    them or nothing was found at all. A slide is cut into tiles of its own size.

    Args:
        mask: Class indices, uint8 [F, H, W] of an image of several frames, uint8 [H, W]
            of one frame and of a slide.
        context: The image must be DICOM; the header alone will do.

    Raises:
        InvalidArgumentError: As ``source_of``, or the mask does not fit the image; names
            the field ``format``.
    """
    source = source_of(context.image)
    planes = mask if mask.ndim == 3 else mask[None]  # noqa: PLR2004
    try:
        made = _made(source, planes, context)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
        # The reason may quote a header; its kind and the usual cause must do.
        raise _refused("the DICOM image lacks what a segmentation must repeat") from exc
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _made(source: Dataset, mask: npt.NDArray[np.uint8], context: MaskContext) -> Dataset:
    header = with_shared_geometry(_header(source))
    if is_slide(header):
        return _oriented(_segmentation(header, mask, context, tile_pixel_array=True), header)
    number = frames(source)
    if len(mask) != number:
        raise _refused(f"the mask has {len(mask)} frames, the image {number}")
    if is_volume(header):
        return _segmentation(header, mask, context)
    made = _segmentation(without_places(header), mask[:1], context)
    refer(made, header)
    if number > 1:
        spread(made, mask, empty_frames=context.empty_frames)
    return _oriented(made, header)


def _oriented(seg: Dataset, header: Dataset) -> Dataset:
    """Adds what an image must say, if only nothing, where no axes of the patient are known."""
    seg.PatientOrientation = header.get("PatientOrientation") or None
    return seg


def _header(source: Dataset) -> Dataset:
    """What stands before the pixels, with empty values for what may be empty."""
    lacking = dict.fromkeys(name for name in _REPEATED if name not in source)
    modality = source.get("Modality") or "OT"
    return changed(source[:_PIXELS], Modality=modality, **lacking)


def _segmentation(
    header: Dataset, mask: npt.NDArray[np.uint8], context: MaskContext, **how: Any
) -> Dataset:
    # Loads for two seconds, which those who never write SEG need not wait for.
    import highdicom as hd

    return hd.seg.Segmentation(
        source_images=[header],
        pixel_array=mask,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=_segments(context),
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="histill",
        manufacturer_model_name="histill",
        software_versions=version("histill"),
        device_serial_number="1",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=not context.empty_frames,
        **how,
    )


def _segments(context: MaskContext) -> list[Any]:
    """Descriptions of the classes but the background."""
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept

    tissue = CodedConcept("85756007", "SCT", "Tissue")
    return [
        hd.seg.SegmentDescription(
            segment_number=index,
            segment_label=name[:64],
            segmented_property_category=tissue,
            segmented_property_type=tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=hd.AlgorithmIdentificationSequence(
                name=context.model,
                family=CodedConcept("123110", "DCM", "Artificial Intelligence"),
                version=context.model.rpartition("@")[2],
            ),
        )
        for index, name in enumerate(context.classes)
        if index
    ]


def _refused(why: str) -> InvalidArgumentError:
    return InvalidArgumentError.of("format", why)
