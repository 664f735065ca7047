"""Image files into pixels."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from dicoms import dicom
from histill.core.errors import InvalidArgumentError, ResourceExhaustedError
from histill.ml import decoding, images

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (40, 50, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
DEEP = RANDOM.integers(100, 4000, (40, 50), dtype=np.uint16)


def saved(pixels: np.ndarray, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    Pillow.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def decode(data: bytes) -> images.Image:
    return decoding.decode(io.BytesIO(data))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("pixels", [RGB, GREY, np.dstack([RGB, GREY])])
def test_lossless_files_give_their_pixels(form: str, pixels: np.ndarray) -> None:
    """Grey, RGB and RGBA come back bit for bit, channels last."""
    image = decode(saved(pixels, form))
    np.testing.assert_array_equal(image.pixels.reshape(pixels.shape), pixels)
    assert image.source == form.lower()
    assert image.pixels.dtype == np.uint8
    assert image.pixels.ndim == 3


def test_jpeg_gives_nearly_its_pixels() -> None:
    """JPEG is told by its bytes and decoded."""
    smooth = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[:, None], 80, axis=1)
    image = decode(saved(smooth, "JPEG", quality=95))
    assert image.source == "jpeg"
    assert np.abs(image.pixels[..., 0].astype(int) - smooth).max() < 10


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate", "jpeg"])
def test_compressed_tiff(compression: str | None) -> None:
    """TIFF with the usual compressions is read."""
    assert decode(saved(RGB, "TIFF", compression=compression)).pixels.shape == (40, 50, 3)


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}])
def test_deep_grey_is_stretched(options: dict[str, object]) -> None:
    """16-bit grey TIFF, tiled or compressed or not, spans 0..255 from its own ends."""
    pixels = decode(tiff(DEEP, **options)).pixels[..., 0]
    expected = (DEEP - DEEP.min()) / (DEEP.max() - DEEP.min()) * 255
    np.testing.assert_allclose(pixels, expected, atol=0.51)


def test_many_channels_of_an_uncompressed_tiff() -> None:
    """A planar stack of five channels becomes [H, W, 5]."""
    stack = RANDOM.integers(0, 256, (5, 40, 50), dtype=np.uint8)
    pixels = decode(tiff(stack, planarconfig="separate", photometric="minisblack")).pixels
    np.testing.assert_array_equal(pixels, stack.transpose(1, 2, 0))


def test_white_is_zero_is_turned_over() -> None:
    """Of a MINISWHITE TIFF the dark pixels are those that show dark."""
    deep = decode(tiff(DEEP, photometric="miniswhite")).pixels[..., 0]
    assert deep[np.unravel_index(DEEP.argmax(), DEEP.shape)] == 0


def test_spacing_of_a_tiff() -> None:
    """Pixels a centimetre become millimetres; pixels an inch are a printer's default."""
    image = decode(tiff(GREY, resolution=(20000, 40000), resolutionunit="CENTIMETER"))
    assert image.spacing == pytest.approx((0.00025, 0.0005))
    assert decode(tiff(GREY, resolution=(72, 72), resolutionunit="INCH")).spacing is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_truncated_files_are_refused(form: str) -> None:
    """A file cut anywhere is an InvalidArgumentError on ``image``, never another error."""
    data = saved(RGB, form)
    for cut in (0, 1, 7, 20, 100, 500, len(data) // 2):
        with pytest.raises(InvalidArgumentError) as caught:
            decode(data[:cut])
        assert caught.value.violations[0].field == "image"


SOURCES = [saved(RGB, "PNG"), saved(RGB, "JPEG"), tiff(DEEP), dicom(DEEP)]


# Decoders warn of damaged files; the service silences them.
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_files_never_crash(data: st.DataObject) -> None:
    """Bytes changed at random give pixels or an error of ours."""
    damaged = bytearray(data.draw(st.sampled_from(SOURCES)))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidArgumentError, ResourceExhaustedError):
        decoding.decode(io.BytesIO(damaged), max_pixels=100_000)


def test_a_bomb_is_refused_by_its_header() -> None:
    """A PNG that claims 10^10 pixels is refused without being decoded."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    body = zlib.compress(bytes(1000))
    bomb += struct.pack(">I", len(body)) + b"IDAT" + body
    bomb += struct.pack(">I", zlib.crc32(b"IDAT" + body))
    with pytest.raises(ResourceExhaustedError, match="100000 x 100000") as caught:
        decode(bomb)
    assert caught.value.retry_after_s is None


def test_unknown_formats_name_the_known_ones() -> None:
    """The error says what would be right."""
    with pytest.raises(InvalidArgumentError, match="PNG, JPEG, TIFF or DICOM"):
        decode(b"GIF89a" + bytes(300))


@pytest.mark.parametrize(
    ("given_channels", "wanted"), [(1, 3), (4, 3), (3, 1), (4, 1), (3, 3), (5, 5)]
)
def test_channels_are_fitted(given_channels: int, wanted: int) -> None:
    """Grey is repeated, alpha dropped, RGB made grey as Pillow does it."""
    pixels = RANDOM.integers(0, 256, (9, 8, given_channels), dtype=np.uint8)
    fitted = images.fit_channels(pixels, wanted)
    assert fitted.shape == (9, 8, wanted)
    if wanted == 1:
        grey = np.asarray(Pillow.fromarray(pixels[..., :3]).convert("L"))
        np.testing.assert_array_equal(fitted[..., 0], grey)


def test_channels_that_do_not_fit() -> None:
    """Five channels for a model of three are an error that gives both numbers."""
    with pytest.raises(InvalidArgumentError, match="5 channels; the model takes 3"):
        images.fit_channels(np.zeros((4, 4, 5), np.uint8), 3)


def test_raw_pixels_must_fit_their_sides() -> None:
    """Too few bytes name ``raw.data`` and the number that is needed."""
    with pytest.raises(InvalidArgumentError, match=r"raw\.data.*need 12"):
        images.from_raw(bytes(11), height=2, width=2, channels=3)
    with pytest.raises(InvalidArgumentError, match=r"raw\.width"):
        images.from_raw(b"", height=2, width=0, channels=3)
