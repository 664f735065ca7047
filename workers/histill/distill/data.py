"""Training images with all that is computed once per image, and random crops of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_CONTRAST = 0.15  # gain in [1 - this, 1 + this]
_BRIGHTNESS = 0.08  # offset in [-this, this] of the full range
_QUARTER_TURNS = 4


@dataclass(frozen=True)
class TrainingImage:
    """One image and its planes, all of its size, so that one crop fits them all.

    Attributes:
        image: uint8 [H, W, C].
        target: Class map, uint8 [H, W]; zeros when unlabelled.
        labeled: Whether ``target`` holds labels.
        weight: Boundary weight, float16 [H, W].
        mixture: The teachers' weighted mean probabilities at the distillation
            temperature, float16 [classes, H, W]; ``None`` without teachers, or when
            none gave a usable answer.
        teacher_weights: Mean weight of each teacher on this image, float32 [K].
    """

    image: npt.NDArray[np.uint8]
    target: npt.NDArray[np.uint8]
    labeled: bool
    weight: npt.NDArray[np.float16]
    mixture: npt.NDArray[np.float16] | None
    teacher_weights: npt.NDArray[np.float32]


class Batch(NamedTuple):
    """Crops of one optimiser step.

    Attributes:
        image: float32 [B, C, S, S], in units of a byte (0 to 255, or a little beyond
            after augmentation).
        target: int64 [B, S, S].
        labeled: bool [B].
        weight: float32 [B, S, S].
        mixture: float32 [B, classes, S, S]; no classes at all without teachers.
        distilled: bool [B], where ``mixture`` is meant.
        teacher_weights: float32 [B, K].
    """

    image: npt.NDArray[np.float32]
    target: npt.NDArray[np.int64]
    labeled: npt.NDArray[np.bool_]
    weight: npt.NDArray[np.float32]
    mixture: npt.NDArray[np.float32]
    distilled: npt.NDArray[np.bool_]
    teacher_weights: npt.NDArray[np.float32]


class _View(NamedTuple):
    top: int
    left: int
    flip: bool
    turns: int


class CropSampler:
    """Batches of random square crops, a pure function of seed and step.

    Being stateless it resumes anywhere, and several processes draw one batch together:
    each takes an equal part of its crops. Each image is visited once before any is
    visited twice, among the labelled and the unlabelled each.

    Args:
        images: Training images; those smaller than a crop are padded by reflection.
        classes: Number of classes.
        crop_size: Side of a crop in pixels.
        batch_size: Crops a step, in all processes together.
        seed: Of all draws.
        augment: Flip, turn, and vary brightness and contrast.
        labeled_share: Where there are labelled and unlabelled images, at least this
            share of the crops is labelled: with few labels the labels' term would else
            be too noisy.
        rank: Number of this process.
        world: Number of processes.
    """

    def __init__(
        self,
        images: Sequence[TrainingImage],
        *,
        classes: int,
        crop_size: int,
        batch_size: int,
        seed: int,
        augment: bool,
        labeled_share: float = 0.5,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._images = [_padded(image, crop_size) for image in images]
        self._classes = classes if any(i.mixture is not None for i in images) else 0
        self._size = crop_size
        self._seed = seed
        self._rank, self._world = rank, world
        self._augment = augment
        labeled = [i for i, image in enumerate(images) if image.labeled]
        unlabeled = [i for i, image in enumerate(images) if not image.labeled]
        share = max(labeled_share, len(labeled) / len(images)) if labeled else 0.0
        self._pools = (labeled, unlabeled)
        self._batch_size = batch_size
        self._labeled_quota = batch_size * share if unlabeled else float(batch_size)

    def batch(self, step: int) -> Batch:
        """This process's crops of a step, numbered from 0."""
        chosen = self._indices(step)
        # Dealt out anew each step, so that no process sees labelled crops only.
        dealt = np.random.default_rng([self._seed, 4, step]).permutation(len(chosen))
        places = sorted(dealt[self._rank :: self._world].tolist())
        batch = self._empty([self._images[chosen[place]] for place in places])
        for row, place in enumerate(places):
            rng = np.random.default_rng([self._seed, 1, step, place])
            self._draw(batch, row, self._images[chosen[place]], rng)
        return batch

    def _empty(self, images: Sequence[TrainingImage]) -> Batch:
        """Room for a crop of each image, so that each pixel is copied only once."""
        count, size = len(images), self._size
        return Batch(
            image=np.empty((count, images[0].image.shape[2], size, size), dtype=np.float32),
            target=np.empty((count, size, size), dtype=np.int64),
            labeled=np.array([image.labeled for image in images]),
            weight=np.empty((count, size, size), dtype=np.float32),
            mixture=np.zeros((count, self._classes, size, size), dtype=np.float32),
            distilled=np.array([image.mixture is not None for image in images]),
            teacher_weights=np.stack([image.teacher_weights for image in images]),
        )

    def _indices(self, step: int) -> list[int]:
        chosen: list[int] = []
        # Labelled crops drawn before this step and after it: whole numbers, so that the
        # share holds over steps even where a batch is too small to be divided.
        labeled = (int(step * self._labeled_quota), int((step + 1) * self._labeled_quota))
        unlabeled = (
            step * self._batch_size - labeled[0],
            (step + 1) * self._batch_size - labeled[1],
        )
        for stream, (pool, span) in enumerate(zip(self._pools, (labeled, unlabeled), strict=True)):
            for position in range(*span):
                epoch, offset = divmod(position, len(pool))
                order = np.random.default_rng([self._seed, 2 + stream, epoch])
                chosen.append(pool[order.permutation(len(pool))[offset]])
        return chosen

    def _draw(self, batch: Batch, row: int, image: TrainingImage, rng: np.random.Generator) -> None:
        """Fills one row with a crop of an image."""
        height, width = image.target.shape
        view = _View(
            top=int(rng.integers(height - self._size + 1)),
            left=int(rng.integers(width - self._size + 1)),
            flip=self._augment and bool(rng.integers(2)),
            turns=int(rng.integers(_QUARTER_TURNS)) if self._augment else 0,
        )
        batch.image[row] = self._seen(image.image, view).transpose(2, 0, 1)
        if self._augment:
            batch.image[row] *= np.float32(rng.uniform(1 - _CONTRAST, 1 + _CONTRAST))
            batch.image[row] += np.float32(rng.uniform(-_BRIGHTNESS, _BRIGHTNESS) * 255)
        batch.target[row] = self._seen(image.target, view)
        batch.weight[row] = self._seen(image.weight, view)
        if image.mixture is not None:
            seen = self._seen(image.mixture.transpose(1, 2, 0), view)
            batch.mixture[row] = seen.transpose(2, 0, 1)

    def _seen(self, plane: npt.NDArray[Any], view: _View) -> npt.NDArray[Any]:
        """A plane [H, W, ...] under one crop, flip and turn."""
        crop = plane[view.top : view.top + self._size, view.left : view.left + self._size]
        return np.rot90(crop[:, ::-1] if view.flip else crop, view.turns)


def pad_to(plane: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """A plane [H, W, ...] padded below and to the right by reflection."""
    missing = [(0, max(0, height - plane.shape[0])), (0, max(0, width - plane.shape[1]))]
    if not any(after for _, after in missing):
        return plane
    return np.pad(plane, missing + [(0, 0)] * (plane.ndim - 2), mode="reflect")


def whole_strides(side: int, stride: int) -> int:
    """The least multiple of a stride that holds a side.

    At least two: a network halves its input down to sides / stride pixels, and norms that
    use an image's own statistics need more than one of them.
    """
    return max(2, -(-side // stride)) * stride


def pad_to_stride(image: npt.NDArray[np.uint8], stride: int) -> npt.NDArray[np.uint8]:
    """An image [H, W, C] padded below and to the right to what a network takes."""
    return pad_to(image, *(whole_strides(side, stride) for side in image.shape[:2]))


def _padded(image: TrainingImage, size: int) -> TrainingImage:
    mixture = image.mixture
    if mixture is not None:
        mixture = pad_to(mixture.transpose(1, 2, 0), size, size).transpose(2, 0, 1)
    return TrainingImage(
        image=pad_to(image.image, size, size),
        target=pad_to(image.target, size, size),
        labeled=image.labeled,
        weight=pad_to(image.weight, size, size),
        mixture=mixture,
        teacher_weights=image.teacher_weights,
    )
