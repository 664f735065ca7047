"""Every way to compress DICOM pixels, by files of others and by decoders of others."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import data_store
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate
from pydicom.pixels.utils import pixel_array

from dicoms import dicom, saved
from histill.core.errors import InvalidArgumentError
from histill.ml import decoding, dicom_codecs
from histill.ml.dicom import frame_pixels, frames

if TYPE_CHECKING:
    from histill.ml.images import Image

# As the service silences them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FOLDERS = [
    Path(pydicom.__file__).parent / "data" / "test_files",
    Path(data_store.__file__).parent / "data",
]
FILES = {
    path.name: path for folder in FOLDERS for path in sorted(folder.rglob("*")) if path.is_file()
}
# Damaged on purpose, or by accident: an image by the header, and none by the pixels.
DAMAGED = {
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "MR_truncated.dcm",
    "badVR.dcm",
}
# Of these there is a file; the others are made further down.
FOUND = {
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLosslessSV1,
    uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
    uid.JPEG2000Lossless,
    uid.JPEG2000,
    uid.RLELossless,
}
# The same picture, and how much the compressed one may differ.
TWINS = [
    ("MR_small.dcm", "MR_small_RLE.dcm", 0),
    ("MR_small.dcm", "MR_small_bigendian.dcm", 0),
    ("MR_small.dcm", "MR_small_implicit.dcm", 0),
    ("MR_small.dcm", "MR_small_jp2klossless.dcm", 0),
    ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm", 0),
    ("RG1_UNCR.dcm", "RG1_J2KR.dcm", 0),
    ("RG3_UNCI.dcm", "RG3_J2KI.dcm", 0),
    ("US1_UNCR.dcm", "US1_J2KR.dcm", 0),
    ("US1_UNCI.dcm", "US1_J2KI.dcm", 0),
    ("693_UNCI.dcm", "693_J2KI.dcm", 0),
    ("JPEG2000_UNC.dcm", "JPEG2000.dcm", 0),
    ("emri_small.dcm", "emri_small_RLE.dcm", 0),
    ("emri_small.dcm", "emri_small_jpeg_ls_lossless.dcm", 0),
    ("emri_small.dcm", "emri_small_jpeg_2k_lossless.dcm", 0),
    ("OBXXXX1A.dcm", "OBXXXX1A_rle.dcm", 0),
    ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm", 0),
    ("gdcm-US-ALOKA-16.dcm", "gdcm-US-ALOKA-16_big.dcm", 0),
    ("color-pl.dcm", "color-px.dcm", 0),
    ("SC_rgb.dcm", "SC_rgb_rle.dcm", 0),
    ("SC_rgb.dcm", "SC_rgb_rle_16bit.dcm", 0),
    ("SC_rgb.dcm", "SC_rgb_rle_32bit.dcm", 0),
    ("SC_rgb.dcm", "SC_rgb_jpeg_gdcm.dcm", 0),
    ("SC_rgb.dcm", "SC_rgb_gdcm_KY.dcm", 0),
    ("SC_rgb.dcm", "SC_rgb_jls_lossy_line.dcm", 2),
    ("SC_rgb.dcm", "SC_rgb_jls_lossy_sample.dcm", 2),
    ("SC_rgb.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", 2),
    ("SC_rgb.dcm", "SC_rgb_jpeg_dcmtk.dcm", 6),
]


def decoded(name: str) -> Image:
    return decoding.decode(io.BytesIO(FILES[name].read_bytes()))


def test_every_file_is_read_or_refused_in_words() -> None:
    """Of two hundred files all images are decoded but damaged ones, and nothing else is."""
    syntaxes: set[uid.UID] = set()
    refused: dict[str, str] = {}
    for name, path in FILES.items():
        try:
            image = decoding.decode(io.BytesIO(path.read_bytes()))
        except InvalidArgumentError as exc:
            refused[name] = str(exc)
            continue
        dataset = image.dicom
        assert dataset is not None
        for index in range(min(frames(dataset), 3)):
            pixels = frame_pixels(dataset, index)
            assert pixels.dtype == np.uint8
            assert pixels.shape[:2] == (dataset.Rows, dataset.Columns)
            assert pixels.shape[2] == (1 if "MONO" in dataset.PhotometricInterpretation else 3)
        syntaxes.add(dataset.file_meta.TransferSyntaxUID)
    assert all(words.startswith("image: ") for words in refused.values())
    assert {name for name in refused if has_image(name)} == DAMAGED
    assert all(has_image(name) for name in FILES.keys() - refused)
    assert syntaxes == FOUND


def has_image(name: str) -> bool:
    """Whether a file with a DICOM prefix has rows and pixels."""
    try:
        dataset = pydicom.dcmread(FILES[name])
    except pydicom.errors.InvalidDicomError:
        return False
    return "Rows" in dataset and "PixelData" in dataset


@pytest.mark.parametrize(("plain", "compressed", "tolerance"), TWINS)
def test_compressed_pixels_are_the_same(plain: str, compressed: str, tolerance: int) -> None:
    """As in the file that was compressed."""
    expected, found = decoded(plain).pixels, decoded(compressed).pixels
    difference = np.abs(expected.astype(int) - found)
    assert difference.max() <= tolerance
    assert expected.std() > 1


@pytest.mark.parametrize(
    ("name", "highest", "mean"),
    [
        ("JPGExtended.dcm", 264, 14.369991302490234),
        ("JPEG-lossy.dcm", 264, 14.369991302490234),
        ("JPEG-LL.dcm", 278, 13.719375610351562),
    ],
)
def test_what_gdcm_decodes(name: str, highest: int, mean: float) -> None:
    """Stored values of 12-bit and of lossless JPEG are as GDCM 3.2.6 has them."""
    plugin = dicom_codecs.plugin_for(pydicom.dcmread(FILES[name]).file_meta.TransferSyntaxUID)
    values = pixel_array(FILES[name], decoding_plugin=plugin)
    assert (values.min(), values.max(), values.mean()) == (0, highest, mean)


GREY = np.random.default_rng(0).integers(0, 4096, (40, 50), dtype=np.uint16)
COLOUR = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
LOSSLESS: Any = partial(imagecodecs.jpeg8_encode, lossless=True, bitspersample=16)
MADE: list[tuple[uid.UID, Any, str]] = [
    (uid.JPEGLossless, LOSSLESS, "RGB"),
    (uid.JPEGLosslessSV1, partial(imagecodecs.ljpeg_encode, bitspersample=16), "RGB"),
    (uid.JPEGLSLossless, imagecodecs.jpegls_encode, "RGB"),
    (uid.JPEG2000, partial(imagecodecs.jpeg2k_encode, codecformat="J2K"), "YBR_RCT"),
    (uid.HTJ2KLossless, imagecodecs.htj2k_encode, "YBR_RCT"),
    (uid.HTJ2KLosslessRPCL, imagecodecs.htj2k_encode, "YBR_RCT"),
    (uid.HTJ2K, imagecodecs.htj2k_encode, "YBR_RCT"),
]


def packed(data: bytes, frame: bytes, syntax: uid.UID, **attributes: Any) -> bytes:
    """A file with its pixels in another form."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    return saved(dataset, **attributes)


@pytest.mark.parametrize(("syntax", "encode", "kind"), MADE)
def test_what_others_encode(syntax: uid.UID, encode: Any, kind: str) -> None:
    """Grey of 16 and colours of 8 bit come back unchanged from encoders of others."""
    grey, colour = dicom(GREY), dicom(COLOUR, kind="RGB")
    expected = decoding.decode(io.BytesIO(grey)).pixels
    found = decoding.decode(io.BytesIO(packed(grey, encode(GREY), syntax))).pixels
    np.testing.assert_array_equal(found, expected)
    if syntax == uid.JPEGLosslessSV1:
        return  # its encoder here is for grey only
    eight = partial(LOSSLESS, bitspersample=8) if encode is LOSSLESS else encode
    data = packed(colour, eight(COLOUR), syntax, PhotometricInterpretation=kind)
    np.testing.assert_array_equal(decoding.decode(io.BytesIO(data)).pixels, COLOUR)


@pytest.mark.parametrize(
    ("syntax", "words"),
    [
        (uid.MPEG2MPML, "in MPEG2 Main Profile / Main Level are not read"),
        (uid.JPEG2000MCLossless, "in JPEG 2000 Part 2"),
        (uid.UID("1.2.3.4"), "in an unknown transfer syntax are not read"),
    ],
)
def test_what_is_not_read_is_named(syntax: uid.UID, words: str) -> None:
    """The error tells the transfer syntax by name, and what to send instead."""
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        decoding.decode(io.BytesIO(packed(dicom(GREY), b"\0" * 8, syntax)))
    assert "JPEG, JPEG of 12 bit, lossless JPEG, JPEG-LS, JPEG 2000, HTJ2K, RLE" in str(
        caught.value
    )


def test_a_frame_that_claims_another_size() -> None:
    """Decoders give memory for what a frame claims; it must be what the header does."""
    for syntax, encode, _ in MADE:
        frame = encode(np.zeros((400, 500), np.uint16))
        with pytest.raises(InvalidArgumentError, match="not of the size"):
            decoding.decode(io.BytesIO(packed(dicom(GREY), frame, syntax)))
