"""Writes a mask as a DICOM Segmentation object that refers to its image."""

from __future__ import annotations

import io
from importlib.metadata import version
from typing import TYPE_CHECKING

from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from histill.core.errors import InvalidArgumentError
from histill.ml.dicom import frames

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from pydicom import Dataset

    from histill.ml.images import Image
    from histill.ml.masks import MaskContext


def source_of(image: Image) -> Dataset:
    """The data set that a SEG of an image refers to.

    Raises:
        InvalidArgumentError: It is not DICOM, or has more frames than one.
    """
    if image.dicom is None:
        raise InvalidArgumentError.of(
            "format", "MASK_FORMAT_DICOM_SEG needs a DICOM image; ask for another format"
        )
    if frames(image.dicom) > 1:
        raise InvalidArgumentError.of(
            "format", "MASK_FORMAT_DICOM_SEG needs a single-frame image; ask for another format"
        )
    return image.dicom


def dicom_seg(mask: npt.NDArray[np.uint8], context: MaskContext) -> bytes:
    """A binary SEG with a segment for each class but the background.

    Args:
        mask: Class indices, uint8 [H, W].
        context: The image must be single-frame DICOM.

    Raises:
        InvalidArgumentError: As ``source_of``, or the image lacks what a SEG must repeat
            of it; names the field ``format``.
    """
    source = source_of(context.image)
    # Loads for two seconds, which those who never write SEG need not wait for.
    import highdicom as hd
    from highdicom.sr.coding import CodedConcept

    tissue = CodedConcept("85756007", "SCT", "Tissue")
    descriptions = [
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
    if not source.get("SliceThickness"):
        # Of a projection there is none, yet readers of SEG want one: a nominal millimetre.
        source.SliceThickness = 1
    try:
        made = hd.seg.Segmentation(
            source_images=[source],
            pixel_array=mask[None],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=generate_uid(),
            series_number=1,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="histill",
            manufacturer_model_name="histill",
            software_versions=version("histill"),
            device_serial_number="1",
            transfer_syntax_uid=ExplicitVRLittleEndian,
        )
    except (AttributeError, KeyError, ValueError, TypeError) as exc:
        # The reason may quote a header; its kind and the usual cause must do.
        raise InvalidArgumentError.of(
            "format",
            "the DICOM image lacks attributes that a segmentation must repeat, such as its "
            f"study and series ({type(exc).__name__})",
        ) from exc
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()
