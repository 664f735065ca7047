"""Pictures of masks and errors."""

from __future__ import annotations

import numpy as np

from histill.distill.pictures import errors, fitted, overlay


def test_an_overlay_tints_the_foreground_only() -> None:
    """Background pixels keep their colour, others change, each class in its own way."""
    image, mask = fitted(
        np.full((2, 2, 1), 100, dtype=np.uint8), np.array([[0, 1], [2, 0]], dtype=np.uint8)
    )
    got = overlay(image, mask)
    assert got.shape == (2, 2, 3)
    assert got[0, 0].tolist() == got[1, 1].tolist() == [100, 100, 100]
    assert got[0, 1].tolist() != [100, 100, 100]
    assert got[0, 1].tolist() != got[1, 0].tolist()


def test_each_kind_of_error_has_its_colour() -> None:
    """Missed, extra and confused pixels differ from each other; right ones are grey."""
    image = np.full((1, 5, 3), 100, dtype=np.uint8)
    target = np.array([[0, 1, 1, 0, 1]], dtype=np.uint8)
    got = errors(image, np.array([[0, 1, 0, 1, 2]], dtype=np.uint8), target)[0].tolist()
    assert got[0] == got[1]
    assert len(set(got[0])) == 1
    assert len({tuple(pixel) for pixel in got}) == 4


def test_large_images_are_reduced_with_their_masks() -> None:
    """No picture has a side above 512 pixels, and masks stay class maps of the same size."""
    mask = np.arange(2001, dtype=np.uint8)[:, None].repeat(700, axis=1) % 3
    image, small = fitted(np.zeros((2001, 700, 4), dtype=np.uint8), mask)
    assert image.shape == (501, 175, 3)
    assert small.shape == (501, 175)
    assert set(np.unique(small)) == {0, 1, 2}
