"""DICOM files into pixels. Headers are read for geometry and pixels only."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pydicom
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array

from histill.core.errors import HistillError, InvalidArgumentError
from histill.ml.images import FIELD, Image, Size, stretched

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from pydicom import Dataset

    from histill.ml.images import Pixels

_COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"}
_GREYS = {"MONOCHROME1", "MONOCHROME2"}


def size(file: BinaryIO) -> Size:
    """The size by the header.

    Raises:
        InvalidArgumentError: The header cannot be read, or there are no pixels.
    """
    with _damage():
        file.seek(0)
        header = pydicom.dcmread(file, stop_before_pixels=True)
        file.seek(0)
        if not header.get("Rows") or not header.get("Columns"):
            raise InvalidArgumentError.of(FIELD, "the DICOM file holds no image")
        return Size(int(header.Rows), int(header.Columns))


def decode(file: BinaryIO) -> Image:
    """Decodes the first frame of a file whose size has been checked.

    Grey values go through the modality transformation and the first window or VOI
    table; without one they are stretched from minimum to maximum. MONOCHROME1 is
    inverted, so that dark means little signal in every image.

    Raises:
        InvalidArgumentError: The file is damaged, or of a kind that is not read.
    """
    with _damage():
        dataset = pydicom.dcmread(file)
        return Image(_pixels(dataset), spacing(dataset), "dicom", dataset)


def spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Millimetres from row to row and column to column, where the file tells."""
    found = dataset.get("PixelSpacing")
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (dataset.get(groups) or [])[:1]:
            for measures in (group.get("PixelMeasuresSequence") or [])[:1]:
                found = found or measures.get("PixelSpacing")
    if not found:
        return None
    rows, columns = float(found[0]), float(found[1])
    return (rows, columns) if rows > 0 and columns > 0 else None


def frames(dataset: Dataset) -> int:
    """Number of frames."""
    return int(dataset.get("NumberOfFrames") or 1)


@contextmanager
def _damage() -> Iterator[None]:
    """Turns whatever pydicom raises for bad files into words."""
    try:
        yield
    except HistillError:
        raise
    except Exception as exc:
        # Any kind: a hostile file brings decoders to raise errors of every class. And
        # without the reason's words: they may quote headers, which hold names of people.
        raise InvalidArgumentError.of(
            FIELD, f"the DICOM file is truncated, damaged or not supported ({type(exc).__name__})"
        ) from exc


def _pixels(dataset: Dataset) -> Pixels:
    if "PixelData" not in dataset:
        raise InvalidArgumentError.of(FIELD, "the DICOM file holds no 8- or 16-bit pixels")
    kind = str(dataset.get("PhotometricInterpretation", ""))
    values: npt.NDArray[Any] = pixel_array(dataset, index=0)
    if kind in _GREYS:
        pixels = _windowed(values, dataset)
        return (255 - pixels if kind == "MONOCHROME1" else pixels)[..., None]
    if kind == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
    elif kind not in _COLOURS:
        raise InvalidArgumentError.of(FIELD, f"DICOM pixels of the kind {kind} are not read")
    eight_bit: npt.NDArray[Any] = values >> 8 if values.dtype.itemsize > 1 else values
    return np.asarray(eight_bit, np.uint8)


def _windowed(values: npt.NDArray[Any], dataset: Dataset) -> Pixels:
    values = apply_modality_lut(values, dataset)
    if "VOILUTSequence" not in dataset and "WindowWidth" not in dataset:
        return values.astype(np.uint8) if values.dtype == np.uint8 else stretched(values)
    shown: npt.NDArray[Any] = apply_voi_lut(values, dataset)
    if "VOILUTSequence" in dataset:
        return stretched(shown)
    # A window's output spans the whole stored range, whatever the image covers of it.
    low, high = _output_range(dataset)
    scaled = (np.asarray(shown, np.float32) - low) * (255 / (high - low))
    eight_bit: Pixels = np.rint(scaled).clip(0, 255).astype(np.uint8)
    return eight_bit


def _output_range(dataset: Dataset) -> tuple[float, float]:
    """What ``apply_windowing`` maps a window to, as pydicom documents it."""
    bits = int(dataset.BitsStored)
    signed = int(dataset.PixelRepresentation) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]
