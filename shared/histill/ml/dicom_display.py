"""Stored grey values of DICOM into what a screen would show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from histill.core.errors import InvalidArgumentError
from histill.ml.images import FIELD, stretched

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from histill.ml.images import Pixels

_STORED = ("BitsStored", "PhotometricInterpretation", "PixelRepresentation")
_MODALITY = ("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept")
_WINDOW = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
# Where an enhanced CT or MR image tells them.
_GROUPS = (("PixelValueTransformationSequence", _MODALITY), ("FrameVOILUTSequence", _WINDOW))
_LARGEST = 1e30
_BYTE = 8
_STRIP_PIXELS = 1 << 20


def displayed(values: npt.NDArray[Any], dataset: Dataset, index: int) -> Pixels:
    """Grey values through the modality transformation and the window of a frame.

    Args:
        values: As they are stored, [H, W].
        dataset: Tells what to do with them.
        index: Of the frame, counted from 0.

    Returns:
        uint8 [H, W]. Without a window that makes sense it is stretched, unless it is of
        8 bit already.

    Raises:
        InvalidArgumentError: The values are beyond every range; names ``image``.
    """
    told = _told(dataset, index)
    if "VOILUTSequence" not in told and _has_window(told):
        return _windowed(values, told)
    values = apply_modality_lut(values, told)
    if "VOILUTSequence" in told:
        return _stretched(apply_voi_lut(values, told))
    plain = values.dtype == np.uint8 and int(told.BitsStored) == _BYTE
    return values if plain else _stretched(values)


def _windowed(values: npt.NDArray[Any], told: Dataset) -> Pixels:
    # A window's output spans the whole stored range, whatever the image covers of it.
    low, high = _output_range(told)
    shown = np.empty(values.shape, np.uint8)
    # Strip by strip, since pydicom counts in 8 bytes a pixel, several times over.
    step = max(1, _STRIP_PIXELS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        strip = apply_modality_lut(values[start : start + step], told)
        scaled = np.asarray(apply_voi_lut(strip, told), np.float32)
        _check_range(scaled)
        scaled = (scaled - np.float32(low)) * np.float32(255 / (high - low))
        shown[start : start + step] = np.rint(scaled).clip(0, 255)
    return shown


def _told(dataset: Dataset, index: int) -> Dataset:
    """What counts for a frame: its own groups, then the shared ones, then the file's."""
    told = Dataset()
    for name in _STORED:
        told.add(dataset[name])
    for sequence, names in _GROUPS:
        for holder in (*_items(dataset, index, sequence), dataset):
            if any(name in holder for name in names):
                for name in names:
                    if name in holder:
                        told.add(holder[name])
                break
    return told


def _items(dataset: Dataset, index: int, sequence: str) -> Iterator[Dataset]:
    """First items of a sequence in the functional groups of a frame."""
    own = (dataset.get("PerFrameFunctionalGroupsSequence") or [])[index : index + 1]
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [])[:1]
    for group in (*own, *shared):
        yield from (group.get(sequence) or [])[:1]


def _has_window(told: Dataset) -> bool:
    center, width = (_first(told.get(name)) for name in ("WindowCenter", "WindowWidth"))
    # As the standard has it: a linear window less wide than 1 is none.
    least = 1.0 if told.get("VOILUTFunction", "LINEAR") == "LINEAR" else math.ulp(0.0)
    return abs(center) < _LARGEST and least <= width < _LARGEST


def _first(value: Any) -> float:
    """A decimal or the first of several; not a number where there is none."""
    if value is None or value == "":
        return math.nan
    try:
        return float(value)
    except TypeError:
        return float(value[0]) if len(value) else math.nan


def _output_range(told: Dataset) -> tuple[float, float]:
    """What ``apply_windowing`` maps a window to, as pydicom documents it."""
    bits = int(told.BitsStored)
    signed = int(told.PixelRepresentation) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    slope = float(told.get("RescaleSlope") or 1)
    intercept = float(told.get("RescaleIntercept") or 0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _stretched(values: npt.NDArray[Any]) -> Pixels:
    _check_range(values)
    return stretched(values)


def _check_range(values: npt.NDArray[Any]) -> None:
    if not (abs(float(values.min())) < _LARGEST and abs(float(values.max())) < _LARGEST):
        raise InvalidArgumentError.of(FIELD, "it holds values that are not finite")
