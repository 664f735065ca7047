"""GeoJSON: simplified, compressed, in micrometres."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from histill.core.errors import InvalidArgumentError
from histill.ml import geojson as module
from histill.ml.geojson import Outlines
from histill.ml.images import Image, pixel_size, with_pixel_size
from pictures import geojson

CLASSES = ("background", "nucleus")


def ring(side: int = 80) -> np.ndarray:
    """A ring: an object with one hole."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    radius = np.hypot(x, y)
    inside: np.ndarray = (radius < side * 0.45) & (radius > side * 0.2)
    return inside.astype(np.uint8)


def polygons(data: bytes) -> list[Any]:
    return [shape(each["geometry"]) for each in json.loads(data)["features"]]


@pytest.mark.parametrize("tolerance", [1.0, 2.0, 3.0])
def test_simplified_outlines_stay_near(tolerance: float) -> None:
    """Fewer points, valid, the hole still there, nowhere further off than allowed."""
    mask = ring()
    [exact] = polygons(geojson(mask, CLASSES))
    [simple] = polygons(geojson(mask, CLASSES, Outlines(tolerance=tolerance)))
    assert exact.area == mask.sum()
    assert simple.is_valid
    assert len(simple.interiors) == 1
    assert shapely.get_num_coordinates(simple) < shapely.get_num_coordinates(exact) / 2
    assert exact.boundary.hausdorff_distance(simple.boundary) <= tolerance + 1e-9
    assert abs(simple.area / exact.area - 1) < 0.05 * tolerance


def test_what_is_smaller_than_the_tolerance_stays() -> None:
    """Objects of one pixel do not vanish, whatever the tolerance."""
    mask = np.zeros((9, 9), np.uint8)
    mask[2, 2] = mask[6, 5] = 1
    found = polygons(geojson(mask, CLASSES, Outlines(tolerance=50)))
    assert len(found) == 2
    assert all(each.is_valid and each.area > 0 for each in found)


def test_compressed_it_is_the_same() -> None:
    """Gzip changes the bytes and nothing else, and always to the same bytes."""
    mask = ring(30)
    packed = geojson(mask, CLASSES, Outlines(gzip=True))
    assert gzip.decompress(packed) == geojson(mask, CLASSES)
    assert packed == geojson(mask, CLASSES, Outlines(gzip=True))


def test_micrometres_scale_each_axis() -> None:
    """X by the distance of columns, y by that of rows."""
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:6] = 1
    outlines = Outlines(micrometres=True)
    [found] = polygons(geojson(mask, CLASSES, outlines, spacing=(0.002, 0.0005)))
    assert found.bounds == (1.0, 2.0, 3.0, 6.0)


@pytest.mark.parametrize("tolerance", [-0.1, 100.5, float("nan")])
def test_tolerances_that_are_none(tolerance: float) -> None:
    """Out of range is named with its range."""
    with pytest.raises(InvalidArgumentError, match=r"geojson.tolerance: .*\[0, 100\]"):
        module.checked(Outlines(tolerance=tolerance))


def test_micrometres_need_the_size_of_a_pixel() -> None:
    """Not known is refused before any work, with what to do; given, it is taken."""
    image = Image(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(InvalidArgumentError, match="give pixel_size_um"):
        module.check_units(Outlines(micrometres=True), image.spacing)
    module.check_units(Outlines(micrometres=True), with_pixel_size(image, 0.25).spacing)


def test_the_file_knows_its_pixels_better() -> None:
    """A given size fills a gap and overrules nothing."""
    known = Image(np.zeros((2, 2, 3), np.uint8), spacing=(0.5, 0.5))
    assert with_pixel_size(known, 0.25) is known
    unknown = Image(known.pixels)
    assert with_pixel_size(unknown, 0).spacing is None
    assert with_pixel_size(unknown, 0.25).spacing == (0.00025, 0.00025)


@pytest.mark.parametrize("size", [-1.0, 10_001.0, float("nan")])
def test_sizes_that_no_pixel_has(size: float) -> None:
    """Out of range is named."""
    with pytest.raises(InvalidArgumentError, match="pixel_size_um"):
        pixel_size(size)


def test_noise_is_simplified_in_no_time_and_stays_valid() -> None:
    """Thousands of holes in one object: valid polygons, whatever could be simplified."""
    mask = (np.random.default_rng(0).random((256, 256)) < 0.6).astype(np.uint8)
    found = polygons(geojson(mask, CLASSES, Outlines(tolerance=1)))
    assert all(each.is_valid for each in found)


def test_small_pixels_keep_their_outlines() -> None:
    """Coordinates in micrometres are as exact as those in pixels, also under an electron beam."""
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:6] = 1
    outlines = Outlines(micrometres=True)
    [found] = polygons(geojson(mask, CLASSES, outlines, spacing=(4e-7, 4e-7)))
    assert found.area == pytest.approx(8 * 0.0004**2)
