"""Slides read region by region."""

from __future__ import annotations

import gc
import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from histill.core.errors import HistillError, InvalidArgumentError, ResourceExhaustedError
from histill.ml import decoding
from histill.ml.images import Selection, Size, Slide
from histill.ml.nameless import nameless_file
from histill.ml.slides import open_slide
from slide_files import pyramid, sparse

APERIO = "Aperio Image Library v11.2.1\n800x600 (256x256)|AppMag = 20|MPP = 0.4990"


def picture(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    values = [rows % 251, columns % 241, (rows + columns) % 239]
    return np.stack(values, axis=2).astype(np.uint8)


def opened(data: bytes, selection: Selection = Selection()) -> Slide:  # noqa: B008 - frozen
    found = decoding.probe(io.BytesIO(data), selection)
    assert isinstance(found, Slide)
    return found


def test_regions_are_those_of_the_image() -> None:
    """Any rectangle of a large tiled TIFF, also over the borders of its tiles, by any thread."""
    pixels = picture(4200, 4100)
    slide = opened(pyramid([pixels]))
    assert (slide.size, slide.channels) == (Size(4200, 4100), 3)
    assert slide.spacing == pytest.approx((0.0005, 0.0005))
    places = [(0, 0, 1, 1), (250, 500, 300, 20), (4100, 4000, 100, 100), (2000, 0, 300, 4100)]
    with ThreadPoolExecutor(4) as threads:
        for place, region in zip(
            places * 4, threads.map(lambda place: slide.read(*place), places * 4), strict=True
        ):
            row, column, height, width = place
            expected = pixels[row : row + height, column : column + width]
            np.testing.assert_array_equal(region, expected)


def test_each_level_of_a_pyramid_can_be_chosen() -> None:
    """A smaller level has its own size and larger pixels; one that is not there is named."""
    full, small = picture(600, 800), picture(300, 400)
    data = pyramid([full, small])
    slide = opened(data, Selection(level=1))
    assert slide.size == Size(300, 400)
    assert slide.spacing == pytest.approx((0.001, 0.001))
    np.testing.assert_array_equal(slide.read(10, 20, 200, 300), small[10:210, 20:320])
    with pytest.raises(InvalidArgumentError, match=r"selection\.level.*levels 0 to 1"):
        decoding.probe(io.BytesIO(data), Selection(level=2))


def test_a_pixel_is_the_same_in_every_region() -> None:
    """Also where a level's sides are no whole part of the full ones, as of real scanners."""
    data = pyramid([picture(4001, 4003), picture(1000, 1000)], description=APERIO)
    slide = opened(data, Selection(level=1))
    whole = slide.read(0, 0, 1000, 1000)
    for row, column, height, width in ((0, 0, 300, 300), (37, 411, 500, 589), (999, 3, 1, 900)):
        region = slide.read(row, column, height, width)
        np.testing.assert_array_equal(region, whole[row : row + height, column : column + width])


def test_what_a_scanner_wrote_is_a_slide_however_small() -> None:
    """Aperio's SVS is read by OpenSlide, which knows the size of its pixels."""
    pixels = picture(600, 800)
    slide = opened(pyramid([pixels], description=APERIO))
    assert slide.spacing == pytest.approx((0.000499, 0.000499))
    np.testing.assert_array_equal(slide.read(0, 0, 600, 800), pixels)


def test_a_small_tiled_tiff_is_decoded_whole() -> None:
    """It is an image like any other, and so is a slide that is small enough, when asked for."""
    pixels = picture(300, 400)
    data = pyramid([pixels])
    assert decoding.probe(io.BytesIO(data)) == Size(300, 400)
    np.testing.assert_array_equal(decoding.decode(io.BytesIO(data)).pixels, pixels)
    scanned = pyramid([pixels], description=APERIO)
    np.testing.assert_array_equal(decoding.decode(io.BytesIO(scanned)).pixels, pixels)


def test_a_slide_of_a_hundred_thousand_pixels_a_side_is_read_where_it_is_scanned() -> None:
    """Its size costs nothing; what was not scanned is white."""
    tile = picture(256, 256)
    slide = opened(sparse(100_000, 100_000, {(300, 200): tile}))
    assert slide.size == Size(100_000, 100_000)
    region = slide.read(300 * 256 - 10, 200 * 256 - 10, 100, 100)
    np.testing.assert_array_equal(region[10:, 10:], tile[:90, :90])
    assert (region[:10] == 255).all()
    assert (region[:, :10] == 255).all()


def test_a_small_slide_may_lack_tiles_too() -> None:
    """It is decoded whole, and white where nothing was scanned."""
    tile = picture(256, 256)
    pixels = decoding.decode(io.BytesIO(sparse(512, 512, {(1, 0): tile}))).pixels
    np.testing.assert_array_equal(pixels[256:, :256], tile)
    assert (pixels[:256] == 255).all()


def test_a_slide_over_the_limit_is_refused_by_its_header() -> None:
    """Limits of slides and of images that are held whole are two."""
    data = sparse(20_000, 20_000, {})
    with pytest.raises(ResourceExhaustedError, match="20000 x 20000"):
        decoding.probe(io.BytesIO(data), max_slide_pixels=10**8)
    with pytest.raises(ResourceExhaustedError, match="250000 are the most of a side"):
        decoding.probe(io.BytesIO(sparse(256, 300_000, {})))
    with pytest.raises(InvalidArgumentError, match=r"selection\.frame"):
        decoding.probe(io.BytesIO(data), Selection(frame=2))
    with pytest.raises(ResourceExhaustedError, match="20000 x 20000"):
        decoding.decode(io.BytesIO(data), max_pixels=10**8)


def descriptors() -> set[tuple[str, str]]:
    """Descriptors of this process, and what each is of."""
    found = set()
    for each in Path("/dev/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add((each.name, str(each.readlink())))
    return found


def test_nothing_stays_open(tmp_path: Path) -> None:
    """The last reference to a slide closes what it had open, in memory or in a folder."""
    data = pyramid([picture(600, 800)], description=APERIO)
    gc.collect()
    before = descriptors()
    for folder in ("", str(tmp_path)):
        with nameless_file(folder) as file:
            file.write(data)
            slide = open_slide(file)
        assert slide is not None
        assert slide.read(5, 5, 10, 10).shape == (10, 10, 3)
        del slide
        gc.collect()
        assert not list(tmp_path.iterdir())
    # What earlier tests left to the collector may be closed meanwhile.
    assert not descriptors() - before


def test_damaged_slides_never_crash() -> None:
    """Cut short or with bytes changed: an error in words, or pixels."""
    whole = pyramid([picture(600, 800), picture(300, 400)], description=APERIO)
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in random.integers(0, len(whole), 8):
            damaged[place] = random.integers(256)
        if random.random() < 0.4:
            del damaged[random.integers(8, len(whole)) :]
        words = ""
        try:
            decoding.decode(io.BytesIO(bytes(damaged)), max_pixels=10**6)
        except HistillError as exc:
            words = str(exc)
        assert "/dev/fd" not in words


@pytest.mark.parametrize("selection", [Selection(frame=2), Selection(level=1)])
def test_a_flat_image_has_one_frame_and_one_level(selection: Selection) -> None:
    """Whoever selects another one is told so."""
    png = io.BytesIO()
    Pillow.new("L", (4, 4)).save(png, "PNG")
    with pytest.raises(InvalidArgumentError, match=r"selection\."):
        decoding.probe(png, selection)
