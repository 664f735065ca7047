"""DICOM files into pixels, and masks into DICOM SEG."""

from __future__ import annotations

import io

import highdicom as hd
import numpy as np
import pydicom
import pytest

from dicoms import dicom
from histill.core.errors import InvalidArgumentError
from histill.ml import decoding, images, masks
from histill.ml.masks import Format, MaskContext

# As the service silences them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 4096, (20, 30), dtype=np.uint16)
CLASSES = ("background", "nuclei", "tumour")


def decode(data: bytes) -> images.Image:
    return decoding.decode(io.BytesIO(data))


def test_a_window_decides_what_is_dark_and_light() -> None:
    """Values below the window are 0, above it 255, in between linear."""
    image = decode(dicom(DEEP, WindowCenter=2000, WindowWidth=1001, BitsStored=12, HighBit=11))
    pixels = image.pixels[..., 0]
    assert pixels[DEEP <= 1499].max() == 0
    assert pixels[DEEP > 2500].min() == 255
    inside = (DEEP > 1510) & (DEEP < 2490)
    expected = (DEEP[inside].astype(float) - 1499.5) / 1000 * 255
    np.testing.assert_allclose(pixels[inside], expected, atol=1)


def test_a_file_that_is_tiff_and_dicom_is_taken_for_dicom() -> None:
    """The preamble may hold a TIFF header, so that either kind of reader finds its way."""
    data = dicom(DEEP, WindowCenter=2000, WindowWidth=1001, BitsStored=12, HighBit=11)
    both = b"II*\0" + data[4:]
    assert decode(both).source == "dicom"
    assert np.array_equal(decode(both).pixels, decode(data).pixels)


def test_rescale_comes_before_the_window() -> None:
    """A CT's window is in Hounsfield units."""
    stored = np.array([[0, 1024, 1064, 1104, 2000, 3000]], np.int16)
    image = decode(
        dicom(stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=81)
    )
    assert image.pixels[0, :, 0].tolist()[0] == 0
    assert image.pixels[0, :, 0].tolist()[-1] == 255
    assert 100 < image.pixels[0, 2, 0] < 155


def test_without_a_window_values_are_stretched() -> None:
    """The darkest pixel becomes 0, the lightest 255."""
    pixels = decode(dicom(DEEP)).pixels
    assert (pixels.min(), pixels.max()) == (0, 255)


def test_eight_bit_grey_stays_as_it_is() -> None:
    """8-bit values without a window are taken as they are."""
    grey = RANDOM.integers(20, 90, (20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(decode(dicom(grey)).pixels[..., 0], grey)


def test_monochrome1_is_turned_over() -> None:
    """What is stored high in MONOCHROME1 is dark."""
    grey = RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(
        decode(dicom(grey, kind="MONOCHROME1")).pixels[..., 0], 255 - grey
    )


def test_colour() -> None:
    """RGB comes back bit for bit."""
    colour = RANDOM.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(dicom(colour, kind="RGB")).pixels, colour)


def test_palette() -> None:
    """PALETTE COLOR goes through its table."""
    indices = RANDOM.integers(0, 256, (20, 30), dtype=np.uint8)
    table = RANDOM.integers(0, 2**16, (3, 256), dtype=np.uint16)
    tables = {
        f"{name}PaletteColorLookupTable{what}": value
        for name, row in zip(("Red", "Green", "Blue"), table, strict=True)
        for what, value in (("Descriptor", [256, 0, 16]), ("Data", row.tobytes()))
    }
    image = decode(dicom(indices, kind="PALETTE COLOR", **tables))
    np.testing.assert_array_equal(image.pixels, (table[:, indices] >> 8).transpose(1, 2, 0))


def test_the_first_of_many_frames_is_taken() -> None:
    """Only frame 1 of a multi-frame file counts."""
    frames = RANDOM.integers(0, 256, (4, 20, 30), dtype=np.uint8)
    np.testing.assert_array_equal(decode(dicom(frames)).pixels[..., 0], frames[0])


def test_spacing() -> None:
    """Rows first, as DICOM writes it; without it there is none."""
    assert decode(dicom(DEEP)).spacing == (0.5, 0.25)
    assert decode(dicom(DEEP, PixelSpacing=None)).spacing is None


def test_errors_quote_no_header() -> None:
    """Truncated files are refused with words, and without what their headers say."""
    data = dicom(DEEP)
    for cut in (140, 400, len(data) - 200):
        with pytest.raises(InvalidArgumentError, match="DICOM") as caught:
            decode(data[:cut])
        assert "Secret" not in str(caught.value)


def test_a_file_without_an_image() -> None:
    """A DICOM file without rows and columns is not an image."""
    with pytest.raises(InvalidArgumentError, match="holds no image"):
        decode(dicom(DEEP, Rows=None, Columns=None))


def test_a_segmentation_object_refers_to_its_image() -> None:
    """Read back, each segment has its pixels, its name and the source's UIDs."""
    image = decode(dicom(DEEP))
    mask = RANDOM.integers(0, 3, (20, 30), dtype=np.uint8)
    data = masks.encode(mask, Format.DICOM_SEG, MaskContext(image, CLASSES, "nuclei@3"))
    seg = hd.seg.segread(io.BytesIO(data))
    assert image.dicom is not None
    assert seg.StudyInstanceUID == image.dicom.StudyInstanceUID
    assert seg.PatientID == "42"
    assert [seg.get_segment_description(n).segment_label for n in (1, 2)] == list(CLASSES[1:])
    planes = seg.get_pixels_by_source_instance([image.dicom.SOPInstanceUID])
    np.testing.assert_array_equal(planes[0, ..., 0], mask == 1)
    np.testing.assert_array_equal(planes[0, ..., 1], mask == 2)


def test_an_empty_segmentation_is_a_result_too() -> None:
    """Nothing found still makes a valid object."""
    image = decode(dicom(DEEP))
    mask = np.zeros((20, 30), np.uint8)
    data = masks.encode(mask, Format.DICOM_SEG, MaskContext(image, CLASSES, "nuclei@3"))
    assert pydicom.dcmread(io.BytesIO(data)).SOPClassUID.name == "Segmentation Storage"


def test_what_cannot_become_a_segmentation_object() -> None:
    """PNG, several frames and a file without a study are errors on ``format``."""
    bare = images.from_raw(bytes(600), height=20, width=30, channels=1)
    frames = decode(dicom(np.zeros((2, 20, 30), np.uint8)))
    for image in (bare, frames):
        with pytest.raises(InvalidArgumentError, match=r"^format: "):
            masks.check(Format.DICOM_SEG, image)
    lacking = decode(dicom(DEEP))
    assert lacking.dicom is not None
    del lacking.dicom.StudyInstanceUID
    with pytest.raises(InvalidArgumentError, match=r"^format: "):
        masks.encode(
            np.zeros((20, 30), np.uint8), Format.DICOM_SEG, MaskContext(lacking, CLASSES, "n@1")
        )
