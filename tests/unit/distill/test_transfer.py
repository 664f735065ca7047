"""Which labelled images tell about an image without labels."""

from __future__ import annotations

import numpy as np
import pytest

from histill.core.manifests import Normalization
from histill.distill.transfer import Neighbours, Transfer, familiarity
from histill.ml.appearance import look


def kind(level: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A noisy image around a grey level, uint8 [16, 16, 3]."""
    drawn = np.random.default_rng(seed).normal(level, 12, (16, 16, 3))
    return drawn.clip(0, 255).astype(np.uint8)


def test_a_look_holds_statistics_of_each_channel() -> None:
    """Mean, spread, percentiles and gradient, against NumPy."""
    image = kind(100, 0)
    got = look(image).reshape(6, 3)
    scaled = image / 255
    np.testing.assert_allclose(got[0], scaled.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(got[1], scaled.std(axis=(0, 1)), rtol=1e-4)
    np.testing.assert_allclose(got[3], np.median(scaled, axis=(0, 1)), rtol=1e-5)
    down = np.abs(np.diff(scaled, axis=0)).mean(axis=(0, 1))
    right = np.abs(np.diff(scaled, axis=1)).mean(axis=(0, 1))
    np.testing.assert_allclose(got[5], (down + right) / 2, rtol=0.1)  # the edge is repeated


def test_one_pixel_has_a_look() -> None:
    """An image without neighbours has no gradient, and nothing is NaN."""
    assert np.isfinite(look(np.full((1, 1, 3), 7, dtype=np.uint8))).all()


def test_images_of_the_same_kind_tell() -> None:
    """Weights sum to one and go to the labelled images that look alike."""
    looks = np.stack([look(kind(level, seed)) for seed, level in enumerate([40] * 6 + [200] * 6)])
    near = Neighbours(looks, labeled=[0, 1, 2, 6, 7, 8])
    weights, trust = near.weights(11)
    assert weights.sum() == pytest.approx(1)
    assert weights[3:].sum() > 0.999
    assert trust > 0.5


def test_an_image_unlike_all_labelled_ones_is_not_told_about() -> None:
    """Far from every label, trust goes to zero."""
    looks = np.stack([look(kind(level, seed)) for seed, level in enumerate([40] * 8 + [200] * 2)])
    near = Neighbours(looks, labeled=[0, 1, 2])
    assert near.weights(9)[1] < 0.01
    assert near.weights(5)[1] > 0.5


def test_scores_are_averaged_over_the_images_that_tell() -> None:
    """A class that one labelled image lacks is scored by the others; a shift has no gaps."""
    looks = np.stack([look(kind(40, seed)) for seed in range(3)])
    nan = np.nan
    tables = {
        0: (np.array([[[0.8, nan]]]), np.array([[[0.7, 0.5]]])),
        1: (np.array([[[0.6, 0.3]]]), np.array([[[0.5, nan]]])),
    }
    transfer = Transfer(
        looks, {k: (t.astype("f4"), e.astype("f4")) for k, (t, e) in tables.items()}
    )
    got = transfer.evidence(2)
    assert 0.6 < got.table[0, 0, 0] < 0.8
    assert got.table[0, 0, 1] == pytest.approx(0.3)
    np.testing.assert_allclose(got.shift[0, 0], [0.1, 0], atol=1e-6)


def test_a_single_image_can_be_its_own_neighbour() -> None:
    """One image, or images all alike, divide by nothing."""
    same = np.stack([look(kind(40, 0))] * 2)
    weights, trust = Neighbours(same, labeled=[0]).weights(1)
    assert (weights.tolist(), trust) == ([1.0], 1.0)
    assert Neighbours(same[:1], labeled=[0]).weights(0)[1] == 1.0


def test_familiarity_falls_with_the_distance_from_the_training_images() -> None:
    """Within one standard deviation it is 1, three away it is exp(-2)."""
    normalization = Normalization(mean=(0.5,), std=(0.1,))
    images = [np.full((4, 4, 1), round(255 * level), dtype=np.uint8) for level in (0.55, 0.8)]
    assert familiarity(images[0], normalization) == 1
    assert familiarity(images[1], normalization) == pytest.approx(np.exp(-2), rel=0.01)


def test_a_teacher_that_scales_each_image_finds_all_familiar() -> None:
    """Constants of a program that measures each image say nothing about its kind."""
    normalization = Normalization(mean=(0.0,), std=(1.0,), scaling="image_zscore")
    assert familiarity(kind(200, 0)[..., :1], normalization) == 1
