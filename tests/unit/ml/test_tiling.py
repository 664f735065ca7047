"""Tiles and what they are put together to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from histill.ml.images import Image
from histill.ml.tiling import Canvas, Part, Rows, pad

STRIDE = 8


def predict(tiles: np.ndarray) -> np.ndarray:
    """Probabilities of three classes that depend on 12 pixels around; [1, h, w, 1] in."""
    smooth = gaussian_filter(tiles[0, ..., 0].astype(np.float32), 3, mode="mirror") / 255
    logits = np.stack([20 * smooth, 20 * (1 - smooth), np.full_like(smooth, 10)])
    raised = np.exp(logits - logits.max(axis=0))
    return np.asarray(raised / raised.sum(axis=0), np.float32)


def picture(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(height, width))
    grey = np.clip(gaussian_filter(noise, 6) * 1200 + 128, 0, 255)
    return np.asarray(grey[..., None], np.uint8)


def canvas_of(pixels: np.ndarray, *, tile: int, overlap: int) -> Canvas:
    image = Image(pixels)
    return Canvas(image.size, image.read, classes=3, stride=STRIDE, tile=tile, overlap=overlap)


def tiled(pixels: np.ndarray, *, tile: int, overlap: int) -> Part:
    """The whole image, of parts that cover it once and rows that come in order."""
    canvas, rows = canvas_of(pixels, tile=tile, overlap=overlap), Rows(pixels.shape[1])
    covered, bands = np.zeros(pixels.shape[:2], int), list[Part]()
    for place in canvas.tiles:
        cut = canvas.cut(place)
        assert cut.shape[1] % STRIDE == 0
        assert cut.shape[2] % STRIDE == 0
        part = canvas.add(place, predict(cut))
        height, width = part.mask.shape
        covered[part.row : part.row + height, part.column : part.column + width] += 1
        if band := rows.add(part):
            assert band.row == sum(each.mask.shape[0] for each in bands)
            bands.append(band)
    assert (covered == 1).all()
    return Part(
        0,
        0,
        np.concatenate([band.mask for band in bands]),
        np.concatenate([band.confidence for band in bands]),
    )


@pytest.mark.parametrize(
    ("height", "width"), [(600, 900), (900, 600), (513, 300), (1, 700), (700, 9), (256, 256)]
)
@pytest.mark.parametrize(("tile", "overlap"), [(256, 64), (128, 48), (512, 128)])
def test_the_result_does_not_depend_on_the_tiles(
    height: int, width: int, tile: int, overlap: int
) -> None:
    """Any tiling gives the classes and confidences of the whole image at once."""
    pixels = picture(height, width)
    whole = predict(pad(pixels[None], multiple=STRIDE))[:, :height, :width]
    found = tiled(pixels, tile=tile, overlap=overlap)
    assert np.mean(found.mask != whole.argmax(axis=0)) < 1e-3
    np.testing.assert_allclose(found.confidence, whole.max(axis=0), atol=0.01)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.integers(4, 20).map(lambda strides: strides * STRIDE),
    st.floats(0.1, 0.49),
)
def test_weights_sum_to_one_everywhere(height: int, width: int, tile: int, share: float) -> None:
    """Whatever the sides: of tiles that say the same, every pixel says just that."""
    image = Image(np.zeros((height, width, 1), np.uint8))
    canvas = Canvas(
        image.size,
        image.read,
        classes=2,
        stride=STRIDE,
        tile=tile,
        overlap=max(1, int(share * tile)),
    )
    for place in canvas.tiles:
        side = canvas.cut(place).shape[1:3]
        said = np.broadcast_to(np.array([0.75, 0.25], np.float32)[:, None, None], (2, *side))
        part = canvas.add(place, said)
        assert not part.mask.any()
        np.testing.assert_allclose(part.confidence, 0.75, atol=1e-3)


@pytest.mark.parametrize(
    ("side", "tiles", "of"), [(768, 1, 768), (776, 2, 512), (1024, 2, 576), (1408, 2, 768)]
)
def test_tiles_are_no_larger_than_their_number_needs(side: int, tiles: int, of: int) -> None:
    """A little over one tile is two small ones, of one of few sizes."""
    canvas = canvas_of(np.zeros((side, 8, 1), np.uint8), tile=768, overlap=128)
    assert len(canvas.tiles) == tiles
    assert {canvas.cut(place).shape[1] for place in canvas.tiles} == {of}


def test_a_shifted_grid_changes_next_to_nothing() -> None:
    """Tiles that start elsewhere in the same picture give the same classes."""
    pixels = picture(1000, 900)
    there = tiled(pixels, tile=256, overlap=64)
    for down, right in ((8, 8), (40, 104), (128, 64)):
        here = tiled(pixels[down:, right:], tile=256, overlap=64)
        inner = here.mask[32:, 32:]  # away from edges that the other one does not have
        same = inner == there.mask[down + 32 :, right + 32 :]
        assert float(np.mean(same)) > 0.999


def test_memory_does_not_grow_with_the_height() -> None:
    """What a canvas holds grows with the width of an image, not with its area."""
    held = []
    for height in (2_000, 20_000):
        canvas = canvas_of(np.zeros((height, 512, 1), np.uint8), tile=256, overlap=64)
        held.append(canvas._above.nbytes)
    assert max(held) <= 3 * 4 * 128 * 512


def test_padding_reflects() -> None:
    """Sides grow to multiples, by reflection, and a single pixel is repeated."""
    batch = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    padded = pad(batch, multiple=4)
    assert padded.shape == (1, 4, 4, 1)
    assert padded[0, 0, :, 0].tolist() == [0, 1, 2, 1]
    assert pad(np.full((1, 1, 1, 3), 7, np.uint8), multiple=8).tolist() == [[[[7] * 3] * 8] * 8]
