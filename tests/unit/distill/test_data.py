"""The crop sampler: determinism, alignment, quotas and padding."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from histill.distill.data import CropSampler, TrainingImage, pad_to


def coded(
    number: int, *, height: int = 12, width: int = 10, labeled: bool = True, taught: bool = True
) -> TrainingImage:
    """An image whose planes all encode the same position, so that misalignment shows."""
    place = np.arange(height * width).reshape(height, width) % 100 + 100
    plane = place.astype(np.uint8)
    mixture = np.stack([place, 255 - place]).astype(np.float16)
    return TrainingImage(
        image=np.stack([plane, np.full_like(plane, number)], axis=2),
        target=plane,
        labeled=labeled,
        weight=plane.astype(np.float16),
        mixture=mixture if taught else None,
        teacher_weights=np.array([number], dtype=np.float32),
    )


def sampler(images: list[TrainingImage], **changes: Any) -> CropSampler:
    """A sampler of 8-pixel crops in batches of 4."""
    fields = {"classes": 2, "crop_size": 8, "batch_size": 4, "seed": 3, "augment": True}
    return CropSampler(images, **(fields | changes))


def test_batches_follow_seed_and_step() -> None:
    """Equal seed and step give equal crops; any other gives others."""
    images = [coded(i, height=40, width=40) for i in range(5)]
    batch = sampler(images).batch(7)
    np.testing.assert_array_equal(batch.image, sampler(images).batch(7).image)
    for other in (sampler(images).batch(8), sampler(images, seed=4).batch(7)):
        assert not np.array_equal(batch.image, other.image)


@pytest.mark.parametrize("size", [4, 5])
def test_processes_share_a_batch(size: int) -> None:
    """What two processes draw is, crop for crop, what one would draw alone."""
    images = [coded(0), *(coded(i, labeled=False) for i in range(1, 6))]
    whole = sampler(images, batch_size=size).batch(3).image
    parts = [
        sampler(images, batch_size=size, rank=rank, world=2).batch(3).image for rank in range(2)
    ]
    assert abs(len(parts[0]) - len(parts[1])) <= 1
    drawn = sorted(crop.tobytes() for part in parts for crop in part)
    assert drawn == sorted(crop.tobytes() for crop in whole)


def test_every_process_sees_labelled_and_unlabelled_crops() -> None:
    """Also with one crop each, crops are dealt out anew at every step."""
    images = [coded(0), *(coded(i, labeled=False) for i in range(1, 6))]
    made = sampler(images, batch_size=2, rank=1, world=2)
    assert len({bool(made.batch(step).labeled[0]) for step in range(20)}) == 2


@pytest.mark.parametrize(("share", "labeled"), [(0.25, 1), (0.5, 2), (1.0, 4)])
def test_the_labelled_share_is_as_told(share: float, labeled: int) -> None:
    """At least this share of a batch is labelled; at 1 nothing else is drawn."""
    images = [coded(0), *(coded(i, labeled=False) for i in range(1, 10))]
    assert sampler(images, labeled_share=share).batch(0).labeled.sum() == labeled


def test_all_planes_share_crop_flip_and_turn() -> None:
    """Target, weight and mixture stay on the pixels of their image under every view."""
    images = [coded(i) for i in range(3)]
    for step in range(10):
        batch = sampler(images).batch(step)
        np.testing.assert_array_equal(batch.target, batch.weight)
        np.testing.assert_array_equal(batch.target, batch.mixture[:, 0])
        np.testing.assert_array_equal(255 - batch.target, batch.mixture[:, 1])


def test_without_augmentation_pixels_are_untouched() -> None:
    """Crops are upright and of the original brightness when augmentation is off."""
    batch = sampler([coded(0)], augment=False).batch(0)
    np.testing.assert_array_equal(batch.image[:, 0], batch.target)
    assert (np.diff(batch.target, axis=2) == 1).mean() > 0.8


def test_augmentation_turns_and_dims_mildly() -> None:
    """All eight orientations occur, and brightness stays within gain and offset."""
    images = [coded(0, height=8, width=8)]
    batches = [sampler(images).batch(step) for step in range(30)]
    orientations = {crop.tobytes() for batch in batches for crop in batch.target}
    assert len(orientations) == 8
    for batch in batches:
        low, high = batch.target * 0.85 - 20.5, batch.target * 1.15 + 20.5
        assert ((batch.image[:, 0] >= low) & (batch.image[:, 0] <= high)).all()


def test_each_image_is_seen_once_before_any_twice() -> None:
    """Over one epoch every image of a pool is drawn equally often."""
    drawn = Counter[float]()
    made = sampler([coded(i) for i in range(8)])
    for step in range(4):
        drawn.update(made.batch(step).teacher_weights.ravel().tolist())
    assert set(drawn.values()) == {2}


def test_half_of_a_batch_is_labelled_when_labels_are_few() -> None:
    """With 1 labelled of 10 images, labels still fill half of the batch."""
    images = [coded(0), *(coded(i, labeled=False) for i in range(1, 10))]
    assert sampler(images).batch(0).labeled.sum() == 2


def test_batches_of_one_alternate_between_labelled_and_unlabelled() -> None:
    """The labelled share holds over steps where a single batch cannot be divided."""
    images = [coded(0), *(coded(i, labeled=False) for i in range(1, 10))]
    made = sampler(images, batch_size=1)
    assert [bool(made.batch(step).labeled[0]) for step in range(4)] == [False, True] * 2


def test_a_batch_without_labels_is_possible() -> None:
    """When nothing is labelled, all crops come from unlabelled images."""
    batch = sampler([coded(i, labeled=False) for i in range(3)]).batch(0)
    assert not batch.labeled.any()
    assert batch.distilled.all()


def test_small_images_are_padded_by_reflection() -> None:
    """An image smaller than the crop is mirrored below and to the right, planes alike."""
    batch = sampler([coded(0, height=5, width=3)], augment=False).batch(0)
    crop = batch.target[0]
    assert crop.shape == (8, 8)
    np.testing.assert_array_equal(crop[:, :5], crop[:, [0, 1, 2, 1, 0]])
    np.testing.assert_array_equal(crop[5], crop[3])
    np.testing.assert_array_equal(batch.mixture[0, 0], crop)


def test_images_without_a_mixture_are_marked() -> None:
    """An image on which no teacher spoke takes no part in distillation."""
    batch = sampler([coded(0), coded(1, taught=False)]).batch(0)
    np.testing.assert_array_equal(batch.distilled, batch.teacher_weights[:, 0] == 0)
    assert not batch.mixture[~batch.distilled].any()


def test_without_teachers_there_is_no_mixture() -> None:
    """Supervised batches carry a mixture of no classes."""
    batch = sampler([coded(0, taught=False)]).batch(0)
    assert batch.mixture.shape == (4, 0, 8, 8)


@pytest.mark.parametrize(("height", "width"), [(3, 4), (6, 9), (20, 4)])
def test_padding_keeps_the_image_in_the_corner(height: int, width: int) -> None:
    """Padding never cuts and never moves the image."""
    plane = np.arange(12).reshape(3, 4)
    padded = pad_to(plane, height, width)
    assert padded.shape == (height, width)
    np.testing.assert_array_equal(padded[:3, :4], plane)
