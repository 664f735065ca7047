"""DICOM files into pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from dicoms import dicom, volume
from histill.core.errors import InvalidArgumentError
from histill.ml import decoding, images
from histill.ml.dicom import decode as decode_frame
from histill.ml.dicom import frame_pixels, frames

# As the service silences them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RANDOM = np.random.default_rng(0)
DEEP = RANDOM.integers(0, 4096, (20, 30), dtype=np.uint16)


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


def test_a_frame_of_many_is_chosen_by_its_number() -> None:
    """Counted from 1; 0 is the first."""
    stack = RANDOM.integers(0, 256, (4, 20, 30), dtype=np.uint8)
    file = io.BytesIO(dicom(stack))
    for frame, expected in ((0, 0), (1, 0), (3, 2), (4, 3)):
        np.testing.assert_array_equal(decode_frame(file, frame).pixels[..., 0], stack[expected])


@pytest.mark.parametrize("frame", [-1, 5, 10**9])
def test_a_frame_that_is_not_there(frame: int) -> None:
    """The error names the field and the number of frames."""
    file = io.BytesIO(dicom(np.zeros((4, 20, 30), np.uint8)))
    with pytest.raises(InvalidArgumentError, match=r"^selection\.frame: .* has 4 frames"):
        decode_frame(file, frame)


def test_frames_come_one_by_one() -> None:
    """Each as it is decoded alone, with a stretch of its own."""
    stack = RANDOM.integers(0, 4096, (3, 20, 30), dtype=np.uint16)
    stack[1] //= 4
    dataset = decode(dicom(stack)).dicom
    assert dataset is not None
    assert frames(dataset) == 3
    for index in range(3):
        alone = decode(dicom(stack[index])).pixels
        np.testing.assert_array_equal(frame_pixels(dataset, index), alone)


@pytest.mark.parametrize("number", [-3, 10**9])
def test_frames_that_the_file_does_not_hold(number: int) -> None:
    """A number of frames beyond the pixels is refused before anything is decoded."""
    with pytest.raises(InvalidArgumentError, match="as many frames"):
        decode(dicom(np.zeros((4, 20, 30), np.uint8), NumberOfFrames=number))


def one(**values: float) -> list[Dataset]:
    """A sequence of one item."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return [item]


def test_frames_have_windows_of_their_own() -> None:
    """Enhanced images tell them by frame, or once for all frames, in groups."""
    stack = RANDOM.integers(0, 4096, (2, 20, 30), dtype=np.uint16)
    windows: tuple[dict[str, Any], ...] = (
        {"WindowCenter": 1000, "WindowWidth": 500},
        {"WindowCenter": 90, "WindowWidth": 81},
    )
    rescales: tuple[dict[str, Any], ...] = (
        {"RescaleSlope": 1, "RescaleIntercept": 0},
        {"RescaleSlope": 2, "RescaleIntercept": -9},
    )
    dataset = decode(volume(stack)).dicom
    assert dataset is not None
    for group, window, rescale in zip(
        dataset.PerFrameFunctionalGroupsSequence, windows, rescales, strict=True
    ):
        group.FrameVOILUTSequence = one(**window)
        group.PixelValueTransformationSequence = one(**rescale)
    for index in range(2):
        alone = decode(dicom(stack[index], **windows[index], **rescales[index])).pixels
        np.testing.assert_array_equal(frame_pixels(dataset, index), alone)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.FrameVOILUTSequence, group.PixelValueTransformationSequence
    dataset.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence = one(**windows[0])
    np.testing.assert_array_equal(
        frame_pixels(dataset, 1), decode(dicom(stack[1], **windows[0])).pixels
    )


@pytest.mark.parametrize("width", [0, 0.5, -1, float("nan"), float("inf")])
def test_a_window_that_shows_nothing_counts_as_none(width: float) -> None:
    """The standard's least width is 1."""
    data = dicom(DEEP, WindowCenter=2000, WindowWidth=width)
    np.testing.assert_array_equal(decode(data).pixels, decode(dicom(DEEP)).pixels)


@pytest.mark.parametrize("slope", [float("nan"), float("inf"), 1e300])
def test_values_beyond_all_numbers(slope: float) -> None:
    """A rescaling that leads nowhere is an error, not a picture."""
    with pytest.raises(InvalidArgumentError, match="not finite"):
        decode(dicom(DEEP, RescaleSlope=slope, RescaleIntercept=0))


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
