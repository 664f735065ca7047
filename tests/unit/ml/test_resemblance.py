"""Nearest real patches of samples, against the plain formula and on real images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from histill.ml import patches
from histill.ml.resemblance import cut_copies, find_nearest, summarize

if TYPE_CHECKING:
    from pathlib import Path


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def shrunk(patch: np.ndarray, side: int) -> np.ndarray:
    step = patch.shape[0] // side
    blocks = patch.reshape(side, step, side, step, -1).astype(float)
    return np.asarray(blocks.mean(axis=(1, 3)).ravel())


def nearest(patch: np.ndarray, others: list[np.ndarray]) -> float:
    return min(1 - float(np.corrcoef(patch, other)[0, 1]) for other in others)


def test_distances_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of bands find what the plain double loop finds, yardstick and image too."""
    monkeypatch.setattr(patches, "_CHUNK", 4)
    samples = noise(0, 3, 8, 8, 3)
    images = [noise(seed, 18, 21, 3) for seed in (1, 2, 3)]
    rows, columns = (0, 4, 8, 10), (0, 4, 8, 12, 13)
    cut = [
        [shrunk(image[r : r + 8, c : c + 8], 4) for r in rows for c in columns] for image in images
    ]
    found = find_nearest(samples, images, side=4, steps=2, yardstick=1000)
    for index, sample in enumerate(samples):
        wanted = [nearest(shrunk(sample, 4), of) for of in cut]
        assert [found.distances[index], found.seconds[index]] == pytest.approx(
            sorted(wanted)[:2], abs=1e-5
        )
        assert found.images[index] == np.argmin(wanted)
    ruler = [
        sorted(nearest(patch, of) for other, of in enumerate(cut) if other != own)
        for own, mine in enumerate(cut)
        for patch in mine
    ]
    firsts, seconds = zip(*ruler, strict=True)
    assert sorted(found.yardstick) == pytest.approx(sorted(firsts), abs=1e-5)
    assert sorted(found.yardstick_seconds) == pytest.approx(sorted(seconds), abs=1e-5)


def test_a_copy_is_found_whatever_its_brightness_and_contrast() -> None:
    """A darkened and flattened patch of the third image is at a distance of almost 0."""
    images = [noise(seed, 64, 64, 3) for seed in range(4)]
    copy = (images[2][14:46, 30:62] * 0.5 + 20).astype(np.uint8)
    found = find_nearest(np.stack([copy, noise(9, 32, 32, 3)]), images)
    assert found.distances[0] < 0.01
    assert found.images[0] == 2
    assert found.distances[1] > 0.3
    result = summarize(found)
    assert (result.near, result.singled_out, result.count) == (0.5, 0.5, 2)
    assert result.samples.minimum == pytest.approx(found.distances.min())
    assert result.yardstick.median == pytest.approx(np.median(found.yardstick))
    rest = summarize(found, slice(1, None))
    assert (rest.near, rest.singled_out, rest.count) == (0, 0, 1)


def test_what_is_in_two_images_singles_out_neither() -> None:
    """A sample that repeats what two images share is near, but gives no image away."""
    images = [noise(seed, 48, 48, 1) for seed in range(6)]
    images[1][8:40, 8:40] = images[0][8:40, 8:40]
    found = find_nearest(images[0][None, 8:40, 8:40], images)
    result = summarize(found)
    assert (result.near, result.singled_out) == (1, 0)


def test_what_shows_nothing_is_like_nothing() -> None:
    """A blank sample is no copy of a blank corner, nor is faint noise of other noise."""
    blank = np.full((32, 32, 1), 255, np.uint8)
    faint = blank - noise(2, 32, 32, 1) // 128
    samples = np.stack([blank[:16, :16], faint[:16, :16]])
    found = find_nearest(samples, [blank, faint, noise(1, 32, 32, 1)])
    assert found.distances.tolist() == [1.0, 1.0]


def test_copies_are_crops_of_images_that_are_large_enough() -> None:
    """Four of an image, or fewer of more images; none where all are smaller."""
    images = [noise(seed, 20, 12, 3) for seed in range(3)]
    copies = cut_copies([*images, noise(9, 7, 90, 3)], height=8, width=9, most=100)
    assert copies is not None
    assert copies.shape == (12, 8, 9, 3)
    windows = [np.lib.stride_tricks.sliding_window_view(i, (8, 9, 3)).reshape(-1, 216)
               for i in images]  # fmt: skip
    for copy in copies:
        assert sum((window == copy.ravel()).all(1).any() for window in windows) == 1
    fewer = cut_copies(images, height=8, width=9, most=5)
    assert fewer is not None
    assert len(fewer) == 5
    assert cut_copies(images, height=21, width=9) is None


def test_a_smaller_image_is_compared_whole() -> None:
    """A sample that is the image enlarged is found, sides that divide nothing too."""
    small = noise(1, 9, 16, 1)
    sample = np.asarray(Image.fromarray(small[..., 0]).resize((48, 45), Image.Resampling.NEAREST))
    found = find_nearest(sample[None, ..., None], [noise(2, 60, 60, 1), small, noise(3, 60, 60, 1)])
    assert found.images.tolist() == [1]
    assert found.distances[0] < 0.05


def test_the_yardstick_is_a_fair_and_repeatable_draw() -> None:
    """As many patches as asked for, of all images, the same for the same seed."""
    images = [noise(seed, 40, 40, 1) for seed in range(6)]
    images[5] = images[4].copy()  # so that a patch of these two has a twin
    first = find_nearest(images[0][None, :8, :8], images, steps=8, yardstick=200)
    again = find_nearest(images[0][None, :8, :8], images, steps=8, yardstick=200)
    assert len(first.yardstick) == 200
    assert np.array_equal(first.yardstick, again.yardstick)
    assert np.mean(first.yardstick < 1e-4) == pytest.approx(2 / 6, abs=0.1)


def test_what_cannot_be_compared_is_refused() -> None:
    """No samples, two images, an iterator, other channels."""
    sample, image = noise(0, 1, 8, 8, 3), noise(1, 16, 16, 3)
    with pytest.raises(ValueError, match="no samples"):
        find_nearest(sample[:0], [image, image])
    with pytest.raises(ValueError, match="at least 3 images"):
        find_nearest(sample, [image, image])
    with pytest.raises(ValueError, match="gone through twice"):
        find_nearest(sample, iter([image, image]))
    with pytest.raises(ValueError, match="image 1 has 1 channels"):
        find_nearest(sample, [image, image[..., :1]])


@pytest.mark.data
def test_copies_of_real_tiles_stand_out_from_crops_of_others(data_dir: Path) -> None:
    """One tile is far nearer than the next to what was cut out of it anywhere."""

    def tiles(split: str) -> list[np.ndarray]:
        paths = sorted((data_dir / "nuclei-he" / split / "images").glob("*.png"))[:12]
        return [np.asarray(Image.open(path).convert("RGB")) for path in paths]

    known, others = tiles("train"), tiles("val")
    own = cut_copies(known, height=64, width=64, most=36)
    fresh = cut_copies(others, height=64, width=64, most=36)
    assert own is not None
    assert fresh is not None
    found = find_nearest(np.concatenate([own, fresh]), known, yardstick=300)
    assert summarize(found, slice(0, 36)).singled_out > 0.75
    assert summarize(found, slice(36, None)).singled_out < 0.15
