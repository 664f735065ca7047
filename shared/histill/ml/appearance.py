"""What images look like in a few numbers, and whether one is like those of a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from histill.core.manifests import Appearance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

_PERCENTILES = (5, 50, 95)
_SEEN = 1 << 14  # pixels of an image on a grid, which tell as much as all of them
_LEAST_SPREAD = 0.01  # of a number over training images, in units of [0, 1]
_LEAST_FAR = 1.0  # deviations that are no sign of another kind of image
_GLASS, _GLASS_STEP = 5.0, 4  # standard deviation of values below which a piece shows nothing
FAR = 1.5  # times the farthest validation image, beyond which an image is of another kind


def look(image: Pixels, *, most_pixels: int | None = None) -> Floats:
    """What an image looks like, float32 [6 x channels].

    Args:
        image: uint8 [H, W, C].
        most_pixels: Pixels to look at, on a grid; all by default.

    Returns:
        Mean, standard deviation, percentiles and mean gradient of each channel, in [0, 1].
    """
    height, width = image.shape[:2]
    step = max(1, math.ceil(math.sqrt(height * width / (most_pixels or height * width))))
    rows, columns = np.arange(0, height, step), np.arange(0, width, step)
    pixels = _at(image, rows, columns)
    # An image of one row or column has no gradient that way.
    below = _at(image, np.minimum(rows + 1, height - 1), columns)
    beside = _at(image, rows, np.minimum(columns + 1, width - 1))
    steps = [np.abs(other - pixels).mean(axis=(0, 1)) for other in (below, beside)]
    numbers = [
        pixels.mean(axis=(0, 1)),
        pixels.std(axis=(0, 1)),
        *np.percentile(pixels, _PERCENTILES, axis=(0, 1)),
        np.mean(steps, axis=0),
    ]
    return np.concatenate(numbers).astype(np.float32)


def _at(image: Pixels, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> Floats:
    values: Floats = image[rows[:, None], columns].astype(np.float32)
    return values / np.float32(255)


def appearance_of(training: Sequence[Pixels], validation: Sequence[Pixels]) -> Appearance | None:
    """What a model's images look like; ``None`` without training images.

    Args:
        training: uint8 [H, W, C] each.
        validation: Images of the same kind that it was not trained on; they tell how far such
            an image may be.
    """
    if not training:
        return None
    looks = np.stack([look(image, most_pixels=_SEEN) for image in training])
    made = Appearance(
        mean=tuple(looks.mean(axis=0).tolist()),
        std=tuple(np.maximum(looks.std(axis=0), _LEAST_SPREAD).tolist()),
        farthest=_LEAST_FAR,
    )
    farthest = max([_LEAST_FAR, *(_distance(image, made) for image in validation or training)])
    return made.model_copy(update={"farthest": farthest})


def unfamiliarity(image: Pixels, known: Appearance) -> float:
    """How unlike a model's images one is.

    Args:
        image: uint8 [H, W, C], with the model's channels.
        known: Of the model.

    Returns:
        Distance from the training images' mean look, in that of the farthest validation image;
        at least 0. Above ``FAR`` the image is of another kind than the model knows.
    """
    return _distance(image, known) / known.farthest


def _distance(image: Pixels, known: Appearance) -> float:
    """Root mean square of the deviations from the mean look, each in its standard deviation."""
    apart = (look(image, most_pixels=_SEEN) - np.array(known.mean)) / np.array(known.std)
    return float(np.sqrt(np.square(apart).mean()))


class Unfamiliarity:
    """That of an image which is seen in pieces.

    Args:
        known: Of the model; ``None`` where it is not known.
    """

    def __init__(self, known: Appearance | None) -> None:
        self._known = known
        self._found: list[tuple[float, bool]] = []

    def see(self, pixels: Pixels) -> None:
        """Looks at a piece, uint8 [h, w, C]; several threads may call it."""
        if self._known is not None:
            shows = float(pixels[::_GLASS_STEP, ::_GLASS_STEP].std()) > _GLASS
            self._found.append((unfamiliarity(pixels, self._known), shows))

    def result(self) -> float:
        """The median over pieces that show something; most of a slide is bare glass."""
        shown = [value for value, shows in self._found if shows]
        values = shown or [value for value, _ in self._found]
        return float(np.median(values)) if values else 0.0
