"""What images look like, and which are of another kind."""

from __future__ import annotations

import numpy as np
import pytest

from histill.ml.appearance import FAR, appearance_of, look, unfamiliarity


def stain(seed: int, *, mean: tuple[int, ...] = (200, 140, 180), side: int = 96) -> np.ndarray:
    """Noise around a colour that differs a little from image to image."""
    random = np.random.default_rng(seed)
    shift = random.normal(0, 8, len(mean))
    values = random.normal(np.array(mean) + shift, 20, (side, side, len(mean)))
    return np.clip(values, 0, 255).astype(np.uint8)


def test_an_image_in_numbers() -> None:
    """Mean, deviation, percentiles and gradient of each channel, against plain formulas."""
    image = stain(0, side=40)
    unit = image / 255
    found = look(image).reshape(6, 3)
    np.testing.assert_allclose(found[0], unit.mean(axis=(0, 1)), atol=1e-5)
    np.testing.assert_allclose(found[1], unit.std(axis=(0, 1)), atol=1e-5)
    np.testing.assert_allclose(found[3], np.median(unit, axis=(0, 1)), atol=1e-5)
    down = np.abs(np.diff(unit, axis=0)).sum(axis=(0, 1)) / (40 * 40)
    right = np.abs(np.diff(unit, axis=1)).sum(axis=(0, 1)) / (40 * 40)
    np.testing.assert_allclose(found[5], (down + right) / 2, atol=1e-5)


def test_a_grid_of_pixels_tells_as_much() -> None:
    """Of a large image some pixels give nearly the same numbers as all."""
    image = stain(1, side=600)
    np.testing.assert_allclose(look(image, most_pixels=1 << 14), look(image), atol=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 1), (50, 1, 4)])
def test_images_of_any_shape(shape: tuple[int, int, int]) -> None:
    """One row, column or pixel has numbers too."""
    assert np.isfinite(look(np.zeros(shape, np.uint8))).all()


def test_another_stain_is_far_and_the_same_is_not() -> None:
    """Images of the kind stay below the bound, another stain and an empty slide lie above."""
    known = appearance_of([stain(i) for i in range(20)], [stain(i) for i in range(100, 110)])
    assert known is not None
    same = [unfamiliarity(stain(i), known) for i in range(200, 240)]
    assert max(same) < FAR
    assert np.median(same) < 1
    for other in (stain(0, mean=(30, 30, 60)), np.full((96, 96, 3), 255, np.uint8)):
        assert unfamiliarity(other, known) > FAR


def test_without_training_images_nothing_is_known() -> None:
    """No images, no appearance; without validation images the training's own tell."""
    assert appearance_of([], [stain(0)]) is None
    known = appearance_of([stain(i) for i in range(5)], [])
    assert known is not None
    assert max(unfamiliarity(stain(i), known) for i in range(5)) <= 1
