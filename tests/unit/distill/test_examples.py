"""Decoding, label meanings, the choice of labels and normalisation constants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from histill.core.errors import WorkFailedError
from histill.core.manifests import LabelKind
from histill.distill.examples import (
    Example,
    choose_labeled,
    class_map,
    decode_example,
    measure_normalization,
)
from histill.distill.shards import Pair

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from histill.core.manifests import DatasetManifest

    Encode = Callable[[npt.NDArray[Any]], bytes]
    Manifest = Callable[..., DatasetManifest]


def test_image_and_label_are_decoded(png: Encode, dataset_manifest: Manifest) -> None:
    """Pixels arrive as uint8 [H, W, C], labels as a class map of the same size."""
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    label = (image > 5).astype(np.uint8)
    example = decode_example("a", Pair(png(image), png(label)), dataset_manifest(), labeled=True)
    np.testing.assert_array_equal(example.image, image[..., None])
    assert example.target is not None
    np.testing.assert_array_equal(example.target, label)


def test_an_unused_label_is_never_decoded(png: Encode, dataset_manifest: Manifest) -> None:
    """An unlabelled image has no target, even if its label is rubbish."""
    pair = Pair(png(np.zeros((3, 4), dtype=np.uint8)), b"rubbish")
    assert decode_example("a", pair, dataset_manifest(), labeled=False).target is None


@pytest.mark.parametrize(
    ("image", "label", "words"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), "mode RGB"),
        (np.zeros((4, 4), np.uint16), np.zeros((4, 4), np.uint8), "mode I;16"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 5), np.uint8), "5x4 pixels, its image 4x4"),
        (np.zeros((4, 4), np.uint8), np.full((4, 4), 2, np.uint8), "the value 2"),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.uint8), "label.png is of mode RGB"),
    ],
)
def test_what_does_not_fit_is_named(
    image: npt.NDArray[Any],
    label: npt.NDArray[Any],
    words: str,
    png: Encode,
    dataset_manifest: Manifest,
) -> None:
    """A wrong channel number, size or value fails as DATASET_INVALID and names the file."""
    with pytest.raises(WorkFailedError, match=words) as caught:
        decode_example("case", Pair(png(image), png(label)), dataset_manifest(), labeled=True)
    assert caught.value.reason == "DATASET_INVALID"
    assert "case" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("part", [slice(0, 40), slice(0, 0), slice(8, None)])
def test_a_broken_png_is_named(part: slice, png: Encode, dataset_manifest: Manifest) -> None:
    """A truncated or foreign file fails as DATASET_INVALID."""
    data = png(np.zeros((30, 30), dtype=np.uint8))[part]
    with pytest.raises(WorkFailedError, match=r"case\.image\.png cannot be decoded"):
        decode_example("case", Pair(data), dataset_manifest(), labeled=False)


def test_instances_become_one_object_class(dataset_manifest: Manifest) -> None:
    """With two classes every object's pixel is 1, whatever its 16-bit number."""
    manifest = dataset_manifest(label_kind=LabelKind.INSTANCE)
    label = np.array([[0, 1], [300, 65535]], dtype=np.uint16)
    assert class_map(label, manifest).tolist() == [[0, 1], [1, 1]]


def test_instances_become_inside_and_contour(dataset_manifest: Manifest) -> None:
    """With three classes the outer two pixels are contour, also between touching objects."""
    manifest = dataset_manifest(
        label_kind=LabelKind.INSTANCE, classes=("background", "inside", "contour")
    )
    label = np.repeat(np.array([[0] * 2 + [1] * 6 + [2] * 6], dtype=np.uint16), 14, axis=0)
    row = class_map(label, manifest)[7].tolist()
    assert row == [0, 0, 2, 2, 1, 1, 2, 2, 2, 2, 1, 1, 1, 1]


def test_instances_of_four_classes_are_refused(dataset_manifest: Manifest) -> None:
    """Object numbers say nothing about a fourth class."""
    manifest = dataset_manifest(label_kind=LabelKind.INSTANCE, classes=("a", "b", "c", "d"))
    with pytest.raises(WorkFailedError, match="two or three classes"):
        class_map(np.zeros((2, 2), dtype=np.uint16), manifest)


def test_the_choice_of_labels_follows_the_seed_and_nests() -> None:
    """Equal seeds choose equally, other seeds differently, and more labels add to fewer."""
    keys = [f"{i:03d}" for i in range(40)]
    few, more = (choose_labeled(keys, count=n, seed=5) for n in (4, 9))
    assert few == choose_labeled(list(reversed(keys)), count=4, seed=5)
    assert set(few) < set(more)
    assert few != choose_labeled(keys, count=4, seed=6)


@pytest.mark.parametrize("count", [0, 3, 99])
def test_zero_or_too_many_labels_choose_all(count: int) -> None:
    """0 means all, and asking for more than there are gives all."""
    assert choose_labeled(["c", "a", "b"], count=count, seed=0) == ["a", "b", "c"]


def test_normalization_is_over_all_pixels_of_all_images() -> None:
    """Mean and deviation equal NumPy's over the concatenated pixels, a channel each."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (h, 7, 3), dtype=np.uint8) for h in (4, 9)]
    got = measure_normalization([Example("x", image, None) for image in images])
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]) / 255
    np.testing.assert_allclose(got.mean, pixels.mean(0))
    np.testing.assert_allclose(got.std, pixels.std(0))


def test_normalization_of_a_constant_channel_is_finite() -> None:
    """A channel without variation does not divide by zero."""
    got = measure_normalization([Example("x", np.full((4, 4, 1), 9, np.uint8), None)])
    assert got.std[0] > 0
