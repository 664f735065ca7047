"""Which attributes of a DICOM file are read: a list of what may be, and nothing else is kept.

Everything that is not listed is passed over by the parser, and dropped from within sequences
right after it: private groups, comments, overlays, names of devices and institutions, and
whatever a later edition of the standard adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.tag import Tag

if TYPE_CHECKING:
    from pydicom.tag import BaseTag

D = TypeVar("D", bound=Dataset)
# How pixels are stored, and how they are to be shown.
PIXELS = (
    "BitsAllocated",
    "BitsStored",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "FrameVOILUTSequence",
    "HighBit",
    "LUTData",
    "LUTDescriptor",
    "LossyImageCompression",
    "ModalityLUTSequence",
    "ModalityLUTType",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelData",
    "PixelRepresentation",
    "PixelValueTransformationSequence",
    "PlanarConfiguration",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "SamplesPerPixel",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    *(
        f"{kind}{colour}PaletteColorLookupTable{part}"
        for kind, part in (("", "Data"), ("", "Descriptor"), ("Segmented", "Data"))
        for colour in ("Red", "Green", "Blue")
    ),
)
# Where they lie.
GEOMETRY = (
    "Columns",
    "ColumnPositionInTotalImagePixelMatrix",
    "ConcatenationUID",
    "DimensionOrganizationType",
    "ImageOrientationPatient",
    "ImageOrientationSlide",
    "ImagePositionPatient",
    "ImageType",
    "ImagedVolumeDepth",
    "ImagedVolumeHeight",
    "ImagedVolumeWidth",
    "NumberOfOpticalPaths",
    "OpticalPathIdentifier",
    "OpticalPathSequence",
    "PatientOrientation",
    "PerFrameFunctionalGroupsSequence",
    "PixelMeasuresSequence",
    "PixelSpacing",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
    "PlanePositionSlideSequence",
    "PositionReferenceIndicator",
    "RowPositionInTotalImagePixelMatrix",
    "Rows",
    "SharedFunctionalGroupsSequence",
    "SliceThickness",
    "SpacingBetweenSlices",
    "TotalPixelMatrixColumns",
    "TotalPixelMatrixFocalPlanes",
    "TotalPixelMatrixOriginSequence",
    "TotalPixelMatrixRows",
    "XOffsetInSlideCoordinateSystem",
    "YOffsetInSlideCoordinateSystem",
    "ZOffsetInSlideCoordinateSystem",
)
# What a Segmentation must repeat, so that an archive files it under its image. It goes to the
# caller, who sent it, and nowhere else; it leaves the decoding process as that file only.
REPEATED = (
    "AccessionNumber",
    "ContainerIdentifier",
    "ContainerTypeCodeSequence",
    "FrameOfReferenceUID",
    "IssuerOfPatientID",
    "IssuerOfTheContainerIdentifierSequence",
    "IssuerOfTheSpecimenIdentifierSequence",
    "Modality",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SpecificCharacterSet",
    "SpecimenDescriptionSequence",
    "SpecimenIdentifier",
    "SpecimenPreparationSequence",
    "SpecimenUID",
    "StudyDate",
    "StudyID",
    "StudyInstanceUID",
    "StudyTime",
)
# Those may be empty, and are.
_EMPTIED = frozenset(
    {
        "ContainerTypeCodeSequence",
        "IssuerOfTheContainerIdentifierSequence",
        "IssuerOfTheSpecimenIdentifierSequence",
        "SpecimenPreparationSequence",
    }
)
_META = (
    "FileMetaInformationGroupLength",
    "FileMetaInformationVersion",
    "MediaStorageSOPClassUID",
    "MediaStorageSOPInstanceUID",
    "TransferSyntaxUID",
)
READ = frozenset((*PIXELS, *GEOMETRY, *REPEATED))


def _tag(keyword: str) -> BaseTag:
    found = tag_for_keyword(keyword)
    if found is None:
        raise ValueError(keyword)
    return Tag(found)


# For pydicom's ``specific_tags``.
TAGS: list[BaseTag | int] = [_tag(keyword) for keyword in sorted(READ)]


def only_read(dataset: D) -> D:
    """The same data set without whatever is not listed, at any depth; changed in place.

    Args:
        dataset: A file's or an item's ``pydicom.Dataset``.
    """
    for tag in list(dataset.keys()):
        keyword = keyword_for_tag(tag)
        if tag.is_private or keyword not in READ:
            del dataset[tag]
        elif dataset.get_item(tag).VR == "SQ":
            items = [] if keyword in _EMPTIED else dataset[tag].value
            dataset[tag].value = [only_read(item) for item in items]
    if isinstance(meta := getattr(dataset, "file_meta", None), Dataset):
        for element in list(meta):
            if element.keyword not in _META:
                del meta[element.tag]
    if hasattr(dataset, "preamble"):
        dataset.preamble = None
    return dataset
