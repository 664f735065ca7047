"""Tiles and what they are put together to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from histill.ml.tiling import Canvas, ClassMap, pad

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


def tiled(pixels: np.ndarray, *, tile: int, overlap: int) -> ClassMap:
    canvas = Canvas(pixels, classes=3, stride=STRIDE, tile=tile, overlap=overlap)
    for place in canvas.tiles:
        cut = canvas.cut(place)
        assert cut.shape[1] % STRIDE == 0
        assert cut.shape[2] % STRIDE == 0
        canvas.add(place, predict(cut))
    return canvas.result()


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


def test_probabilities_are_kept_for_one_band_only() -> None:
    """What a canvas holds grows with the shorter side, not with the area."""
    canvas = Canvas(np.zeros((256, 20_000, 1), np.uint8), classes=4, stride=8, tile=256, overlap=64)
    assert canvas._band.nbytes <= 4 * 256 * 256 * 4


def test_padding_reflects() -> None:
    """Sides grow to multiples, by reflection, and a single pixel is repeated."""
    batch = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    padded = pad(batch, multiple=4)
    assert padded.shape == (1, 4, 4, 1)
    assert padded[0, 0, :, 0].tolist() == [0, 1, 2, 1]
    assert pad(np.full((1, 1, 1, 3), 7, np.uint8), multiple=8).tolist() == [[[[7] * 3] * 8] * 8]
