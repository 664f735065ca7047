"""Regions of a mask, and the picture below them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from histill.inference.computer import Step
from histill.inference.regions import MOST_SIDE, Region, RegionForm
from histill.ml import masks
from histill.ml.tiling import Part, Tile


def part_of(height: int, width: int, *, row: int = 0, column: int = 0) -> Part:
    random = np.random.default_rng(0)
    mask = random.integers(0, 3, (height, width), np.uint8)
    return Part(row, column, mask, random.uniform(0.4, 1, mask.shape).astype(np.float32))


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def test_a_region_is_a_part_with_its_mask_alone() -> None:
    """Nothing that was not asked for is made."""
    part = part_of(30, 40, row=5, column=7)
    (region,) = RegionForm().written(part, np.zeros((30, 40, 3), np.uint8))
    assert (region.row, region.column, region.height, region.width) == (5, 7, 30, 40)
    assert (region.picture, region.confidence_map) == (b"", b"")
    np.testing.assert_array_equal(opened(region.png), part.mask)


def test_the_picture_is_that_of_the_part() -> None:
    """Of all that the network saw of a tile, the rectangle that the part covers."""
    part = part_of(30, 40, row=105, column=207)
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[5:35, 7:47] = 150
    step = Step(part, 0.5, pixels, Tile(100, 200))
    form = RegionForm(picture=True, confidence_map=True)
    (region,) = form.written(part, step.seen)
    picture = opened(region.picture)
    assert picture.shape == (30, 40, 3)
    assert np.abs(picture.astype(int) - 150).max() <= 1
    assert region.confidence_map == masks.confidence_png(part.confidence)


def test_a_very_long_part_is_several_regions() -> None:
    """An image of few rows may be longer than a JPEG can; its regions cover it once."""
    part = part_of(3, 70_000, row=2)
    seen = np.repeat((50 + 100 * (np.arange(70_000) // 5_000 % 2)).astype(np.uint8)[None], 3, 0)
    found: list[Region] = list(
        RegionForm(picture=True, confidence_map=True).written(part, seen[..., None])
    )
    assert max(each.width for each in found) == MOST_SIDE
    assert {each.row for each in found} == {2}
    assert [each.column for each in found] == list(range(0, 70_000, MOST_SIDE))
    for name, wanted, loss in (
        ("png", part.mask, 0),
        ("picture", seen, 12),
        ("confidence_map", np.rint(part.confidence * np.float32(255)), 0),
    ):
        whole = np.concatenate([opened(getattr(each, name)) for each in found], axis=1)
        assert np.abs(whole.astype(int) - wanted).max() <= loss
