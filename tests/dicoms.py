"""Small DICOM files, made by hand."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

if TYPE_CHECKING:
    from pydicom.uid import UID

# Micrometres a pixel of slides.
MICROMETRES = 0.5


def dicom(pixels: np.ndarray, *, kind: str = "MONOCHROME2", **attributes: Any) -> bytes:
    """A DICOM file.

    Args:
        pixels: uint8, uint16 or int16: [H, W], [frames, H, W] or, with ``kind="RGB"``,
            uint8 [H, W, 3].
        kind: Photometric interpretation.
        attributes: Further attributes, or other values.
    """
    colour = kind == "RGB"
    sides = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset = _identified(SecondaryCaptureImageStorage, "OT")
    dataset.Rows, dataset.Columns = sides
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = pixels.shape[0]
    dataset.PhotometricInterpretation = kind
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.ImagePositionPatient = [0, 0, 0]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    return saved(dataset, **attributes)


def volume(pixels: np.ndarray, *, shared: bool = True, **attributes: Any) -> bytes:
    """An enhanced MR image, whose frames lie 2 mm above each other.

    Args:
        pixels: uint16 [F, H, W].
        shared: Orientation and spacing stand once for all, not with each frame.
        attributes: Further attributes, or other values.
    """
    common, frames = Dataset(), []
    orientation, measures = Dataset(), Dataset()
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.25], 2
    for index in range(len(pixels)):
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2 * index]
        group.PlanePositionSequence = [position]
        frames.append(group)
    for group in [common] if shared else frames:
        group.PlaneOrientationSequence = [orientation]
        group.PixelMeasuresSequence = [measures]
    return dicom(
        pixels,
        SOPClassUID=EnhancedMRImageStorage,
        Modality="MR",
        PixelSpacing=None,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        SharedFunctionalGroupsSequence=[common],
        PerFrameFunctionalGroupsSequence=frames,
        **attributes,
    )


def slide(
    pixels: np.ndarray,
    *,
    tile: int = 256,
    syntax: UID = ExplicitVRLittleEndian,
    missing: tuple[int, ...] | None = None,
    **attributes: Any,
) -> bytes:
    """One level of a whole slide in DICOM.

    Args:
        pixels: uint8 [H, W, 3].
        tile: Side of a tile.
        syntax: How tiles are kept: uncompressed, or JPEG of quality 95.
        missing: Tiles that are left out, counted row by row; makes it TILED_SPARSE.
        attributes: Further attributes, or other values.
    """
    height, width = pixels.shape[:2]
    dataset = _slide_header(height, width)
    corners = [(r, c) for r in range(0, height, tile) for c in range(0, width, tile)]
    if missing is None:
        dataset.DimensionOrganizationType = "TILED_FULL"
    else:
        dataset.DimensionOrganizationType = "TILED_SPARSE"
        corners = [each for i, each in enumerate(corners) if i not in missing]
        dataset.PerFrameFunctionalGroupsSequence = [_place(*each) for each in corners]
    # White where tiles reach beyond the picture.
    padded = np.full((height + tile, width + tile, 3), 255, np.uint8)
    padded[:height, :width] = pixels
    tiles = [padded[r : r + tile, c : c + tile] for r, c in corners]
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.Rows = dataset.Columns = tile
    dataset.NumberOfFrames = len(tiles)
    dataset.PixelData = b"".join(each.tobytes() for each in tiles)
    if syntax.is_encapsulated:
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.LossyImageCompression = "01"
        dataset.PixelData = encapsulate([jpeg(each) for each in tiles])
        dataset["PixelData"].VR = "OB"
    return saved(dataset, **attributes)


def _slide_header(height: int, width: int) -> Dataset:
    dataset = _identified(VLWholeSlideMicroscopyImageStorage, "SM")
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = height, width
    dataset.TotalPixelMatrixFocalPlanes = dataset.NumberOfOpticalPaths = 1
    dataset.ImagedVolumeHeight = height * MICROMETRES / 1000
    dataset.ImagedVolumeWidth = width * MICROMETRES / 1000
    dataset.ImagedVolumeDepth = 0.001
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]
    origin = Dataset()
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 20, 40
    dataset.TotalPixelMatrixOriginSequence = [origin]
    measures, shared, path = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [MICROMETRES / 1000] * 2
    measures.SliceThickness = 0.001
    shared.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    path.OpticalPathIdentifier = "1"
    dataset.OpticalPathSequence = [path]
    specimen = Dataset()
    specimen.SpecimenIdentifier, specimen.SpecimenUID = "S1", generate_uid()
    specimen.IssuerOfTheSpecimenIdentifierSequence = specimen.SpecimenPreparationSequence = []
    dataset.SpecimenDescriptionSequence = [specimen]
    dataset.ContainerIdentifier = "B1"
    dataset.IssuerOfTheContainerIdentifierSequence = dataset.ContainerTypeCodeSequence = []
    dataset.SpecimenLabelInImage = dataset.BurnedInAnnotation = "NO"
    dataset.FocusMethod, dataset.ExtendedDepthOfField = "AUTO", "NO"
    dataset.VolumetricProperties = "VOLUME"
    dataset.PositionReferenceIndicator = "SLIDE_CORNER"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.PlanarConfiguration = dataset.PixelRepresentation = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    return dataset


def _place(row: int, column: int) -> Dataset:
    """Functional groups of a tile, by its first row and column from 0."""
    group, position = Dataset(), Dataset()
    position.RowPositionInTotalImagePixelMatrix = row + 1
    position.ColumnPositionInTotalImagePixelMatrix = column + 1
    position.XOffsetInSlideCoordinateSystem = 20 - row * MICROMETRES / 1000
    position.YOffsetInSlideCoordinateSystem = 40 - column * MICROMETRES / 1000
    position.ZOffsetInSlideCoordinateSystem = 0
    group.PlanePositionSlideSequence = [position]
    return group


def _identified(kind: UID, modality: str) -> Dataset:
    """A data set of somebody's, not yet with an image."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = kind
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.Modality = modality
    dataset.PatientID = "42"
    dataset.PatientName = "Secret^Person"
    for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        setattr(dataset, name, "")
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    return dataset


def saved(dataset: Dataset, **attributes: Any) -> bytes:
    """The file of a data set, with further attributes, or other values."""
    for name, value in attributes.items():
        setattr(dataset, name, value)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def jpeg(pixels: np.ndarray) -> bytes:
    """A baseline JPEG of uint8 [H, W, 3]."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()
