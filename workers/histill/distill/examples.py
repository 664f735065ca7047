"""Decodes images and labels, checks them, and turns labels into class maps."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from histill.core.manifests import LabelKind, Normalization
from histill.distill.reasons import dataset_invalid
from histill.ml.object_classes import object_classes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.core.manifests import DatasetManifest
    from histill.distill.shards import Pair

_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
_LABEL_MODES = frozenset({"1", "L", "P", "I", "I;16"})
_OBJECTS = 2  # classes of an INSTANCE dataset: background, object
_OBJECTS_AND_CONTOURS = 3  # background, inside, contour
_MIN_STD = 1e-3  # a constant channel must not divide by zero


@dataclass(frozen=True)
class Example:
    """One decoded image.

    Attributes:
        key: Its id within the split.
        image: uint8 [H, W, C].
        target: Class map, uint8 [H, W]; ``None`` when unlabelled.
    """

    key: str
    image: npt.NDArray[np.uint8]
    target: npt.NDArray[np.uint8] | None


def decode_example(key: str, pair: Pair, manifest: DatasetManifest, *, labeled: bool) -> Example:
    """Decodes one image, and its label when ``labeled``.

    Raises:
        WorkFailedError: DATASET_INVALID; an image cannot be decoded, has another
            number of channels than the manifest says, or its label has another
            shape or a value that is no class.
    """
    image = _decode(f"{key}.image.png", pair.image or b"")
    if _CHANNELS.get(image.mode) != manifest.channels:
        raise dataset_invalid(
            f"{key}.image.png is of mode {image.mode}, but the dataset is declared with "
            f"{manifest.channels} channels",
            hint="Images are 8-bit PNG: L (1 channel), RGB (3) or RGBA (4), all alike.",
        )
    pixels = np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)
    if not labeled or pair.label is None:
        return Example(key, pixels, None)
    label = _decode(f"{key}.label.png", pair.label)
    if label.mode not in _LABEL_MODES:
        raise dataset_invalid(
            f"{key}.label.png is of mode {label.mode}",
            hint="Labels are 8- or 16-bit PNG with one channel.",
        )
    if label.size != image.size:
        raise dataset_invalid(
            f"{key}.label.png is {label.width}x{label.height} pixels, its image "
            f"{image.width}x{image.height}",
            hint="An image and its label have the same size.",
        )
    return Example(key, pixels, class_map(np.asarray(label), manifest, name=key))


def _decode(name: str, data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as exc:
        # Without the reason's words: they may quote text of the file.
        raise dataset_invalid(
            f"{name} cannot be decoded ({type(exc).__name__})",
            hint="Images and labels are PNG files.",
        ) from exc
    return image


def class_map(
    label: npt.NDArray[Any], manifest: DatasetManifest, *, name: str = "label"
) -> npt.NDArray[np.uint8]:
    """Class indices from a label image.

    SEMANTIC labels hold them already. INSTANCE labels hold object numbers: with two
    classes an object's pixels become 1; with three, its outer two pixels become 2
    (contour) and the rest 1 (inside), so that touching objects stay apart.

    Args:
        label: Integers [H, W].
        manifest: Says how many classes there are and what the values mean.
        name: Of the image, for the error.

    Returns:
        uint8 [H, W], values in [0, classes).

    Raises:
        WorkFailedError: DATASET_INVALID; a value is no class, or an INSTANCE dataset
            has more than three classes.
    """
    classes = len(manifest.classes)
    if manifest.label_kind is LabelKind.SEMANTIC:
        top = int(label.max(initial=0))
        if top >= classes or int(label.min(initial=0)) < 0:
            raise dataset_invalid(
                f"{name}.label.png holds the value {top}, but there are {classes} classes "
                f"(0 to {classes - 1})",
                hint="Declare all classes, or declare the labels as INSTANCE.",
            )
        return label.astype(np.uint8)
    if classes not in {_OBJECTS, _OBJECTS_AND_CONTOURS}:
        raise dataset_invalid(
            f"instance labels become two or three classes, but {classes} are declared",
            hint="Declare background and object, or background, inside and contour.",
        )
    return object_classes(label, classes=classes)


def choose_labeled(keys: Sequence[str], *, count: int, seed: int) -> list[str]:
    """The images whose labels are used: the same for equal seeds, nested for growing counts.

    Args:
        keys: Ids of all images that have a label.
        count: How many to choose; 0, or more than there are, chooses all.
        seed: The run's seed.

    Returns:
        The chosen ids, sorted.
    """
    if count == 0 or count >= len(keys):
        return sorted(keys)
    order = np.random.default_rng([seed, len(keys)]).permutation(len(keys))
    return sorted(sorted(keys)[i] for i in order[:count])


def measure_normalization(examples: Sequence[Example]) -> Normalization:
    """Mean and standard deviation of each channel over all pixels, scaled to [0, 1]."""
    pixels = sum(e.image[..., 0].size for e in examples)
    total = sum(e.image.sum(axis=(0, 1), dtype=np.float64) for e in examples)
    squares = sum(np.square(e.image, dtype=np.float64).sum(axis=(0, 1)) for e in examples)
    mean = np.atleast_1d(total / pixels / 255)
    variance = np.atleast_1d(squares / pixels / 255**2) - mean**2
    std = np.sqrt(np.maximum(variance, _MIN_STD**2))
    return Normalization(mean=tuple(map(float, mean)), std=tuple(map(float, std)))
