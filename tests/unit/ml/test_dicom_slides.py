"""Whole slides in DICOM, read region by region."""

from __future__ import annotations

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from PIL import Image as Pillow
from pydicom.uid import MPEG2MPML, UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

from dicoms import jpeg, saved, slide
from histill.core.errors import InvalidArgumentError
from histill.ml.dicom import header
from histill.ml.dicom_slides import is_slide, open_slide, slide_size
from histill.ml.images import Size

if TYPE_CHECKING:
    from pathlib import Path

    from histill.ml.images import Slide

# As the service silences them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (500, 700, 3), dtype=np.uint8)


def opened(data: bytes) -> Slide:
    return open_slide(io.BytesIO(data))


def test_regions_are_those_of_the_picture() -> None:
    """Within a tile, across tiles, at the edges and as a whole."""
    it = opened(slide(PICTURE))
    assert (it.size, it.channels, it.source) == (Size(500, 700), 3, "slide")
    for row, column, height, width in ((0, 0, 10, 10), (250, 250, 20, 300), (499, 699, 1, 1)):
        np.testing.assert_array_equal(
            it.read(row, column, height, width),
            PICTURE[row : row + height, column : column + width],
        )
    whole = it.read(0, 0, 500, 700)
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, PICTURE)


def test_jpeg_tiles_are_as_pillow_has_them() -> None:
    """Another decoder gives the same colours."""
    found = opened(slide(PICTURE, syntax=JPEGBaseline8Bit)).read(0, 0, 256, 512)
    tiles = [jpeg(PICTURE[:256, column : column + 256]) for column in (0, 256)]
    expected = np.hstack([np.asarray(Pillow.open(io.BytesIO(tile))) for tile in tiles])
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_missing_tiles_are_white() -> None:
    """TILED_SPARSE leaves out what was not scanned."""
    expected = PICTURE.copy()
    expected[:256, 256:512] = 255
    expected[256:, 256:512] = 255
    found = opened(slide(PICTURE, missing=(1, 4))).read(0, 0, 500, 700)
    np.testing.assert_array_equal(found, expected)
    compressed = opened(slide(PICTURE, missing=(1, 4), syntax=JPEGBaseline8Bit))
    assert (compressed.read(0, 256, 500, 256) == 255).all()


def test_grey_slides() -> None:
    """Fluorescence comes in one channel; of deeper pixels the upper 8 bits count."""
    deep = RANDOM.integers(0, 2**16, (64, 128), dtype=np.uint16)
    data = slide(
        np.zeros((64, 128, 3), np.uint8),
        tile=64,
        PixelData=deep[:, :64].tobytes() + deep[:, 64:].tobytes(),
        PhotometricInterpretation="MONOCHROME2",
        SamplesPerPixel=1,
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
    )
    it = opened(data)
    assert it.channels == 1
    np.testing.assert_array_equal(it.read(0, 0, 64, 128)[..., 0], deep >> 8)


def test_what_a_header_tells() -> None:
    """Its kind, its size and its spacing, without pixels."""
    data = slide(PICTURE, syntax=JPEGBaseline8Bit)
    found = header(io.BytesIO(data))
    assert is_slide(found)
    assert slide_size(found) == Size(500, 700)
    it = opened(data)
    assert it.spacing == (0.0005, 0.0005)
    assert it.dicom is not None
    assert "PixelData" not in it.dicom
    assert not is_slide(
        header(io.BytesIO(slide(PICTURE, ImageType=["DERIVED", "PRIMARY", "LABEL"])))
    )


@pytest.mark.parametrize("missing", [None, (1, 4)])
def test_threads_read_at_once(missing: tuple[int, ...] | None) -> None:
    """Each gets its own region, whatever the others read."""
    it = opened(slide(PICTURE, tile=64, missing=missing))
    whole = it.read(0, 0, 500, 700)
    corners = [tuple(RANDOM.integers(0, 400, 2)) for _ in range(200)]
    with ThreadPoolExecutor(8) as pool:
        regions = list(pool.map(lambda at: it.read(int(at[0]), int(at[1]), 90, 80), corners))
    for (row, column), region in zip(corners, regions, strict=True):
        np.testing.assert_array_equal(region, whole[row : row + 90, column : column + 80])


@pytest.mark.data
def test_real_tissue(data_dir: Path) -> None:
    """JPEG changes a picture of tissue by a little only."""
    path = min((data_dir / "nuclei-he" / "train" / "images").iterdir())
    with Pillow.open(path) as image:
        tissue = np.asarray(image.convert("RGB"))
    found = opened(slide(tissue, tile=128, syntax=JPEGBaseline8Bit)).read(0, 0, *tissue.shape[:2])
    assert np.abs(found.astype(int) - tissue).mean() < 5


@pytest.mark.parametrize(
    "lie",
    [
        {"TotalPixelMatrixRows": 2**32 - 1, "TotalPixelMatrixColumns": 2**32 - 1},
        {"TotalPixelMatrixRows": 0},
        {"TotalPixelMatrixRows": None},
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 1, "Columns": 1},
        {"Rows": 0},
        {"NumberOfFrames": 10**9},
        {"NumberOfFrames": -1},
        {"NumberOfFrames": 5},
        {"BitsAllocated": 3},
        {"SamplesPerPixel": 7},
        {"PhotometricInterpretation": "CIELAB"},
        {"ConcatenationUID": "1.2.3"},
        {"TotalPixelMatrixFocalPlanes": 10**6},
        {"SharedFunctionalGroupsSequence": None},
    ],
)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGBaseline8Bit])
@pytest.mark.parametrize("missing", [None, (0,)])
def test_lies_end_in_words(lie: dict[str, Any], syntax: UID, missing: Any) -> None:
    """Absurd sizes are refused, or do no harm; the error names the image and nobody."""
    data = slide(PICTURE[:100, :150], tile=64, missing=missing, syntax=syntax)
    dataset = pydicom.dcmread(io.BytesIO(data))
    try:
        it = opened(saved(dataset, **lie))
        found = it.read(0, 0, min(it.size.height, 100), min(it.size.width, 150))
    except InvalidArgumentError as exc:
        words = str(exc)
    else:
        words = "image: "
        assert found.dtype == np.uint8
    assert words.startswith("image: ")
    assert "Secret" not in words


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGBaseline8Bit])
def test_slides_cut_short(syntax: UID) -> None:
    """Wherever a file ends, reading it ends in words."""
    data = slide(PICTURE, syntax=syntax)
    for cut in (200, 1000, len(data) // 2, len(data) - 100):
        with pytest.raises(InvalidArgumentError, match=r"^image: "):
            opened(data[:cut]).read(0, 0, 500, 700)


def test_tiles_that_lie_across_each_other() -> None:
    """Positions off the grid are refused: the reader would move them silently."""
    dataset = pydicom.dcmread(io.BytesIO(slide(PICTURE, missing=(0,))))
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    group.PlanePositionSlideSequence[0].RowPositionInTotalImagePixelMatrix = 100
    with pytest.raises(InvalidArgumentError, match="side by side"):
        opened(saved(dataset))


def test_planes_without_number() -> None:
    """Each focal plane would be given memory for all tiles."""
    data = slide(PICTURE, tile=16, missing=(0,), TotalPixelMatrixColumns=2**20)
    dataset = pydicom.dcmread(io.BytesIO(data))
    for height, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = height
    with pytest.raises(InvalidArgumentError, match="focal planes"):
        opened(saved(dataset))


def test_a_tile_that_claims_another_size() -> None:
    """Decoders give memory for what a tile claims; it must be what the header does."""
    data = slide(PICTURE, syntax=JPEGBaseline8Bit, tile=256, Rows=256, Columns=256)
    # Height and width in the first start of frame.
    at = data.index(b"\xff\xc0\x00\x11\x08") + 5
    it = opened(data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :])
    with pytest.raises(InvalidArgumentError, match="not of the size"):
        it.read(0, 0, 10, 10)


def test_a_slide_of_films() -> None:
    """A transfer syntax that is not read is named."""
    dataset = pydicom.dcmread(io.BytesIO(slide(PICTURE, syntax=JPEGBaseline8Bit)))
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    with pytest.raises(InvalidArgumentError, match="in MPEG2 Main Profile / Main Level"):
        opened(saved(dataset))


def test_the_reader_loads_when_it_is_needed() -> None:
    """Services that are sent no slides do without wsidicom's memory."""
    code = (
        "import sys, histill.ml.decoding, histill.ml.dicom_slides; print('wsidicom' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
