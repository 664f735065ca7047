"""DICOM files into pixels. Of headers no more is read than ``dicom_tags`` lists."""

from __future__ import annotations

import math
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pydicom
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset, read_partial
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import AllTransferSyntaxes, DeflatedExplicitVRLittleEndian

from histill.core.errors import HistillError, InvalidArgumentError, ResourceExhaustedError
from histill.ml.dicom_codecs import plugin_for
from histill.ml.dicom_display import displayed
from histill.ml.dicom_streams import check_frame
from histill.ml.dicom_tags import TAGS, only_read
from histill.ml.images import FIELD, MAX_PIXELS, Image, Size

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from pydicom import Dataset
    from pydicom.uid import UID

    from histill.ml.images import Pixels

_COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"}
_GREYS = {"MONOCHROME1", "MONOCHROME2"}
_FRAME_FIELD = "selection.frame"
# Of 16-bit grey pixels the most that are accepted, and a header.
_MAX_INFLATED = 2 * MAX_PIXELS + (1 << 24)
_CHUNK = 1 << 20
_META_GROUP = 2
_PER_FRAME = 0x52009230
_PREFIX = 132
_ITEM_BYTES = 8


def header(file: BinaryIO) -> Dataset:
    """What stands before the groups of single frames and the pixels.

    The position is put back to 0.

    Raises:
        InvalidArgumentError: It cannot be read.
        ResourceExhaustedError: The file is deflated, and too large.
    """
    with damage():
        _check_deflated(file)
        file.seek(0)
        # Slides have groups for each of thousands of tiles, which nobody asks for here.
        found = read_partial(file, stop_when=lambda tag, *_: tag >= _PER_FRAME, specific_tags=TAGS)
        file.seek(0)
        return only_read(found)


def frame_size(dataset: Dataset) -> Size:
    """The size of a frame, as a header tells it.

    Raises:
        InvalidArgumentError: There are no pixels, or it is damaged.
    """
    with damage():
        if not dataset.get("Rows") or not dataset.get("Columns"):
            raise InvalidArgumentError.of(FIELD, "the DICOM file holds no image")
        return Size(int(dataset.Rows), int(dataset.Columns))


def decode(file: BinaryIO, frame: int = 0) -> Image:
    """Decodes a frame of a file whose size has been checked.

    Args:
        file: Open for reading, seekable.
        frame: Counted from 1; 0 is the first, too.

    Returns:
        Pixels as ``frame_pixels`` has them, and what is read of the data set.

    Raises:
        InvalidArgumentError: The file is damaged, of a kind that is not read, or has no
            such frame; names ``image`` or ``selection.frame``.
        ResourceExhaustedError: The file is deflated, and too large.
    """
    checked = frame_size(header(file))
    with damage():
        file.seek(0)
        dataset = only_read(pydicom.dcmread(file, specific_tags=TAGS))
        # A later element of the same name may say otherwise than the header did.
        if frame_size(dataset) != checked:
            raise InvalidArgumentError.of(FIELD, "the DICOM file tells its size twice")
    number = frames(dataset)
    if not 0 <= frame <= number:
        raise InvalidArgumentError.of(_FRAME_FIELD, f"{frame}; the image has {number} frames")
    pixels = frame_pixels(dataset, max(frame - 1, 0))
    with damage():
        return Image(pixels, spacing(dataset), "dicom", dataset)


def frame_pixels(dataset: Dataset, index: int) -> Pixels:
    """Decodes one frame, as if it were a file of its own.

    Grey values go through the modality transformation and the first window or VOI table
    that the file tells for the frame; without one they are stretched from the frame's
    minimum to its maximum, so that it looks the same whether it is asked for alone or
    with all others. MONOCHROME1 is inverted, so that dark means little signal in every
    image.

    Args:
        dataset: With pixels; its size has been checked.
        index: Of the frame, counted from 0, less than ``frames``.

    Returns:
        uint8 [H, W, 1] of grey, uint8 [H, W, 3] of coloured pixels.

    Raises:
        InvalidArgumentError: The file is damaged, or of a kind that is not read; names
            ``image``.
    """
    with damage():
        return _pixels(dataset, index)


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
    return (rows, columns) if 0 < rows < math.inf and 0 < columns < math.inf else None


def frames(dataset: Dataset) -> int:
    """Number of frames, at least 1.

    Raises:
        InvalidArgumentError: It is no number, or there are more than the pixels can hold.
    """
    with damage():
        number = int(dataset.get("NumberOfFrames") or 1)
        room = len(dataset.get("PixelData") or b"") // _least_bytes(dataset)
        if number < 1 or ("PixelData" in dataset and number > max(room, 1)):
            raise InvalidArgumentError.of(
                FIELD, "the DICOM file does not hold as many frames as its header tells"
            )
        return number


@contextmanager
def damage() -> Iterator[None]:
    """Turns whatever DICOM libraries raise for bad files into words."""
    try:
        # Numbers out of every range are looked at when they come out.
        with np.errstate(all="ignore"):
            yield
    except (HistillError, MemoryError):
        raise
    except Exception as exc:
        # Any kind: a hostile file brings decoders to raise errors of every class. And
        # without the reason's words: they may quote headers, which hold names of people.
        raise InvalidArgumentError.of(
            FIELD, "the DICOM file is truncated, damaged or not supported"
        ) from exc


def _syntax(dataset: Dataset) -> UID:
    found: UID = dataset.file_meta.TransferSyntaxUID
    return found


def _least_bytes(dataset: Dataset) -> int:
    """Bytes that a frame takes at least."""
    syntax = _syntax(dataset)
    if syntax not in AllTransferSyntaxes or syntax.is_encapsulated:
        return _ITEM_BYTES
    bits = int(dataset.get("BitsAllocated") or 1) * int(dataset.get("SamplesPerPixel") or 1)
    # A third less of YBR_FULL_422, which shares colours between neighbours.
    return max(frame_size(dataset).pixels * bits // 12, 1)


def _check_deflated(file: BinaryIO) -> None:
    """Refuses a file that inflates to more than any image needs: pydicom would hold it."""
    file.seek(_PREFIX)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != _META_GROUP)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not inflater.eof and (chunk := inflater.unconsumed_tail or file.read(_CHUNK)):
        total += len(inflater.decompress(chunk, _CHUNK))
        if total > _MAX_INFLATED:
            raise ResourceExhaustedError("the deflated DICOM file is too large; inflate it")


def _pixels(dataset: Dataset, index: int) -> Pixels:
    if "PixelData" not in dataset:
        raise InvalidArgumentError.of(FIELD, "the DICOM file holds no 8- or 16-bit pixels")
    kind = str(dataset.get("PhotometricInterpretation", ""))
    if kind not in _GREYS | _COLOURS | {"PALETTE COLOR"}:
        raise InvalidArgumentError.of(FIELD, "DICOM pixels of this kind of colour are not read")
    values = _stored(dataset, index)
    if kind in _GREYS:
        pixels = displayed(values, dataset, index)
        return (255 - pixels if kind == "MONOCHROME1" else pixels)[..., None]
    if kind == "PALETTE COLOR":
        values = _looked_up(values, dataset)
        return np.asarray(values >> 8 * (values.dtype.itemsize - 1), np.uint8)
    return np.asarray(values >> max(int(dataset.BitsStored) - 8, 0), np.uint8)


def _looked_up(values: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[Any]:
    """Colours of a palette, uint8 or uint16 [H, W, 3]."""
    colours = apply_color_lut(values, dataset)
    # pydicom reads such a table as if it were little-endian.
    swapped = not _syntax(dataset).is_little_endian and "RedPaletteColorLookupTableData" in dataset
    return colours.byteswap() if swapped else colours


def _stored(dataset: Dataset, index: int) -> npt.NDArray[Any]:
    """Values of a frame as they are stored, [H, W] or [H, W, 3]; YBR as RGB."""
    syntax = _syntax(dataset)
    plugin = plugin_for(syntax)
    if plugin:
        data = get_frame(dataset.PixelData, index, number_of_frames=frames(dataset))
        check_frame(data, syntax, frame_size(dataset), int(dataset.SamplesPerPixel))
    return pixel_array(dataset, index=index, decoding_plugin=plugin)
