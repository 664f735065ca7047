"""Damaged and hostile DICOM files: every one ends in pixels, or in an error of ours."""

from __future__ import annotations

import io
import random
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit

from dicoms import dicom, saved, slide, volume
from histill.core.errors import HistillError, InvalidArgumentError, ResourceExhaustedError
from histill.ml import decoding
from histill.ml import dicom as reader
from histill.ml.dicom_slides import is_slide, open_slide
from histill.ml.images import checked

# As the service silences them; every other warning is an error.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
NUMBERS = np.random.default_rng(0)
GREY = NUMBERS.integers(0, 4096, (20, 30), dtype=np.uint16)
COLOUR = NUMBERS.integers(0, 256, (100, 150, 3), dtype=np.uint8)
MAX_PIXELS = 1_000_000
FILES = [
    "CT_small.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "JPGExtended.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jpeg.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
    "rtdose.dcm",
]


def read(data: bytes) -> None:
    """All that is done with a file."""
    file = io.BytesIO(data)
    if decoding.sniff(file) != "dicom":
        return
    if is_slide(reader.header(file)):
        it = open_slide(file)
        checked(it.size, max_pixels=MAX_PIXELS)
        it.read(0, 0, it.size.height, it.size.width)
        return
    checked(reader.frame_size(reader.header(file)), max_pixels=MAX_PIXELS)
    dataset = reader.decode(file).dicom
    assert dataset is not None
    for index in range(min(reader.frames(dataset), 3)):
        reader.frame_pixels(dataset, index)


def outcome(data: bytes) -> str:
    """What becomes of a file; errors that are not ours get through."""
    words = "read"
    try:
        read(data)
    except HistillError as exc:
        words = str(exc)
    assert "Secret" not in words
    return words if words == "read" else "refused"


def broken(data: bytes, noise: random.Random) -> bytes:
    """A file with a few other bytes, mostly in its header, and perhaps cut short."""
    made = bytearray(data)
    most = noise.choice([len(made), min(len(made), 3000)])
    for _ in range(noise.choice([1, 1, 2, 4, 16])):
        made[noise.randrange(most)] = noise.choice([0, 255, noise.randrange(256)])
    return bytes(made[: noise.randrange(len(made))] if noise.random() < 0.15 else made)


def seeds() -> list[bytes]:
    paths = [get_testdata_file(name, download=False) for name in FILES]
    return [
        *(Path(str(path)).read_bytes() for path in paths),
        volume(np.stack([GREY] * 3)),
        slide(COLOUR, tile=64, syntax=JPEGBaseline8Bit),
        slide(COLOUR, tile=64),
        slide(COLOUR, tile=64, missing=(1,)),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_broken_files_end_in_pixels_or_in_words(seed: int) -> None:
    """Bytes turned over at random in files of every kind."""
    noise, files = random.Random(seed), seeds()
    found = {outcome(broken(noise.choice(files), noise)) for _ in range(150)}
    assert found == {"read", "refused"}


def nested(depth: int) -> list[Dataset]:
    item = Dataset()
    item.PatientID = "Secret"
    if depth:
        item.ReferencedImageSequence = nested(depth - 1)
    return [item]


def table(first: int, length: int, bits: int, data: bytes) -> list[Dataset]:
    item = Dataset()
    item.LUTDescriptor = [length, first, bits]
    item.LUTData = data
    return [item]


@pytest.mark.parametrize(
    "absurd",
    [
        {"Rows": 65535},
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 0},
        {"BitsAllocated": 0},
        {"BitsAllocated": 3},
        {"BitsAllocated": 64},
        {"BitsStored": 0},
        {"BitsStored": 200},
        {"HighBit": 99},
        {"NumberOfFrames": 10**9},
        {"NumberOfFrames": -1},
        {"SamplesPerPixel": 7},
        {"SamplesPerPixel": 0},
        {"PixelRepresentation": 9},
        {"PhotometricInterpretation": "Secret"},
        {"PhotometricInterpretation": None},
        {"PixelSpacing": [0, 0]},
        {"PixelSpacing": [float("nan"), 1]},
        {"PixelSpacing": 1},
        {"WindowCenter": float("nan"), "WindowWidth": 10},
        {"WindowCenter": 10, "WindowWidth": float("inf")},
        {"WindowCenter": 1e300, "WindowWidth": 1e300},
        {"WindowCenter": 10, "WindowWidth": None},
        {"WindowCenter": 10, "WindowWidth": 10, "VOILUTFunction": "Secret"},
        {"RescaleSlope": float("nan"), "RescaleIntercept": 0},
        {"RescaleSlope": 1e308, "RescaleIntercept": 1e308},
        {"RescaleSlope": 0, "RescaleIntercept": float("-inf")},
        {"VOILUTSequence": table(0, 0, 16, b"")},
        {"VOILUTSequence": table(0, 65535, 16, b"\0\0")},
        {"VOILUTSequence": table(0, 1, 99, b"\0\0")},
        {"ModalityLUTSequence": table(0, 65535, 16, b"\0\0"), "RescaleSlope": None},
        {"ModalityLUTSequence": nested(0)},
        {"PerFrameFunctionalGroupsSequence": nested(0)},
        {"SharedFunctionalGroupsSequence": nested(50)},
        {"PixelData": b""},
        {"PixelData": None},
    ],
    ids=str,
)
def test_absurd_headers_end_in_pixels_or_in_words(absurd: dict[str, Any]) -> None:
    """Nothing but errors of ours, and nothing of the header in them."""
    data = dicom(GREY, SpecificCharacterSet="ISO_IR 100")
    with warnings.catch_warnings():
        # pydicom tells what it writes.
        warnings.simplefilter("ignore")
        dataset = reader.decode(io.BytesIO(data)).dicom
        assert dataset is not None
        for name, value in absurd.items():
            setattr(dataset, name, value)
        out = io.BytesIO()
        try:
            dataset.save_as(out)
        except (TypeError, ValueError, OverflowError):
            # What cannot be written is at least held in memory.
            with pytest.raises(HistillError):
                reader.frame_pixels(dataset, 0)
            return
    outcome(out.getvalue())


@pytest.mark.parametrize("name", ["Rows", "BitsAllocated", "SamplesPerPixel", "PixelData"])
def test_missing_attributes_are_refused(name: str) -> None:
    """Without them there are no pixels."""
    dataset = reader.decode(io.BytesIO(dicom(GREY))).dicom
    assert dataset is not None
    delattr(dataset, name)
    assert outcome(saved(dataset)) == "refused"


def test_sequences_within_sequences() -> None:
    """Deeper than any interpreter goes: refused, or read past."""
    depth = 100_000
    begin = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data = dicom(GREY)
    at = data.index(b"\x08\x00\x60\x00CS")
    assert outcome(data[:at] + begin * depth + data[at:]) == "refused"


def test_a_deflated_bomb() -> None:
    """What inflates to more than any image is refused before it is held."""
    data = dicom(GREY)
    dataset = reader.decode(io.BytesIO(data)).dicom
    assert dataset is not None
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    plain = saved(dataset)
    assert outcome(plain) == "read"
    length = int(reader.header(io.BytesIO(plain)).file_meta.FileMetaInformationGroupLength)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = [*(packer.compress(bytes(1 << 24)) for _ in range(30)), packer.flush()]
    with pytest.raises(ResourceExhaustedError, match="too large"):
        read(plain[: 132 + 12 + length] + b"".join(bomb))


def test_a_second_size_behind_the_pixels_is_refused() -> None:
    """What was checked is what is decoded: a later element does not make an image larger."""
    lie = struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 9000)
    data = dicom(np.zeros((16, 16), np.uint8)) + lie
    with pytest.raises(InvalidArgumentError, match="size twice"):
        decoding.decode(io.BytesIO(data), max_pixels=1_000_000)
