"""Boundary weights against the formula and at their limits."""

from __future__ import annotations

import numpy as np
import pytest

from histill.core.specs import BoundaryWeighting
from histill.distill.boundary import boundary_distance, boundary_weight


@pytest.fixture
def halves() -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Left half class 0, right half class 1; the boundary lies between columns 3 and 4."""
    target = np.zeros((6, 8), dtype=np.uint8)
    target[:, 4:] = 1
    return target


def test_distance_counts_pixels_from_both_sides(
    halves: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
) -> None:
    """Pixels at the boundary are at 0, and each column further adds one."""
    assert boundary_distance(halves)[2].tolist() == [3, 2, 1, 0, 0, 1, 2, 3]


def test_distance_is_exact_for_every_pixel() -> None:
    """The distance equals a brute-force search over boundary pixels."""
    target = np.random.default_rng(0).integers(0, 3, (4, 4)).repeat(4, 0).repeat(4, 1)
    padded = np.pad(target, 1, mode="edge")
    edge = np.zeros(target.shape, dtype=bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        edge |= target != padded[rows : rows + 16, columns : columns + 16]
    spots = np.argwhere(edge)
    grid = np.argwhere(np.ones_like(edge))
    nearest = np.sqrt(((grid[:, None] - spots[None]) ** 2).sum(-1)).min(1).reshape(16, 16)
    np.testing.assert_allclose(boundary_distance(target.astype(np.uint8)), nearest)


def test_distance_uses_the_spacing(
    halves: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
) -> None:
    """With pixels half a millimetre wide, distances come in millimetres."""
    assert boundary_distance(halves, spacing=0.5)[0, 0] == pytest.approx(1.5)


def test_weight_follows_the_gaussian_formula(
    halves: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
) -> None:
    """Distance mode is 1 + beta * exp(-d^2 / 2 sigma^2), scaled to mean 1."""
    distance = np.array([3, 2, 1, 0, 0, 1, 2, 3])
    expected = np.tile(1 + 4 * np.exp(-(distance**2) / (2 * 1.5**2)), (6, 1))
    got = boundary_weight(halves, BoundaryWeighting(mode="distance", beta=4, sigma=1.5))
    np.testing.assert_allclose(got, expected / expected.mean(), rtol=1e-6)


def test_weight_follows_the_band_formula(
    halves: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
) -> None:
    """Band mode is 1 + beta up to the radius and 1 beyond, scaled to mean 1."""
    expected = np.tile([1, 1, 5, 5, 5, 5, 1, 1], (6, 1)) / 3
    got = boundary_weight(halves, BoundaryWeighting(mode="band", beta=4, radius=1))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("mode", ["none", "distance", "band"])
def test_weight_is_one_where_there_is_no_boundary(mode: str) -> None:
    """An image of one class weighs all pixels alike."""
    empty = np.zeros((5, 5), dtype=np.uint8)
    weighting = BoundaryWeighting.model_validate({"mode": mode})
    np.testing.assert_array_equal(boundary_weight(empty, weighting), 1)


@pytest.mark.parametrize("mode", ["distance", "band"])
def test_weight_is_one_where_all_is_boundary(mode: str) -> None:
    """A chequerboard has boundaries everywhere, so none stands out."""
    board = (np.indices((6, 6)).sum(0) % 2).astype(np.uint8)
    weighting = BoundaryWeighting.model_validate({"mode": mode})
    np.testing.assert_allclose(boundary_weight(board, weighting), 1)


def test_weight_with_beta_zero_is_one(
    halves: np.ndarray[tuple[int, int], np.dtype[np.uint8]],
) -> None:
    """Without extra height the boundary is like any place."""
    np.testing.assert_allclose(boundary_weight(halves, BoundaryWeighting(beta=0)), 1)
