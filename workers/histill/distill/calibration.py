"""How far a network's confidence can be believed, and the temperature that mends it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

if TYPE_CHECKING:
    import numpy.typing as npt

    Logits = npt.NDArray[np.float32]
    Targets = npt.NDArray[np.intp]

_BINS = 15
_PIXELS = 200_000  # sampled of all images together
_VALUES = 8_000_000  # logits kept; fewer pixels where there are many classes
_TEMPERATURES = (0.25, 8.0)
_SEED = 0


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, in bins of equal width that hold pixels.

    Attributes:
        confidence: Mean of the winning probability in each bin, float64 [B].
        accuracy: Share of pixels in it whose class is right, float64 [B].
        share: Of all pixels, float64 [B].
    """

    confidence: npt.NDArray[np.float64]
    accuracy: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]

    @classmethod
    def of(cls, logits: Logits, targets: Targets, *, temperature: float = 1.0) -> Self:
        """Measured on pixels.

        Args:
            logits: float32 [N, classes].
            targets: Class of each, [N].
            temperature: By which logits are divided first.
        """
        confidence = np.exp(_log_probabilities(logits, temperature).max(axis=1))
        right = logits.argmax(axis=1) == targets
        bins = np.minimum((confidence * _BINS).astype(np.intp), _BINS - 1)
        number = np.bincount(bins, minlength=_BINS)
        held = number > 0
        sums = [np.bincount(bins, weights=w, minlength=_BINS)[held] for w in (confidence, right)]
        return cls(sums[0] / number[held], sums[1] / number[held], number[held] / len(targets))

    @property
    def ece(self) -> float:
        """Expected calibration error: mean gap between confidence and accuracy, in [0, 1].

        Source: Guo et al., https://arxiv.org/abs/1706.04599.
        """
        return float((self.share * np.abs(self.accuracy - self.confidence)).sum())


@dataclass(frozen=True)
class Calibration:
    """How well a network knows what it does not know.

    Attributes:
        temperature: By which logits are to be divided; above 1 the network is too sure.
        before: As the network is.
        after: With its logits divided by the temperature, on the same pixels.
    """

    temperature: float
    before: Reliability
    after: Reliability


class PixelSample:
    """The same number of random pixels of each image.

    Args:
        images: How many there will be.
        classes: Number of classes.
    """

    def __init__(self, *, images: int, classes: int) -> None:
        self._each = max(1, min(_PIXELS, _VALUES // classes) // max(1, images))
        self._rng = np.random.default_rng(_SEED)
        self._logits: list[Logits] = []
        self._targets: list[Targets] = []

    def add(self, logits: Logits, target: npt.NDArray[Any]) -> None:
        """Takes pixels of one image.

        Args:
            logits: float32 [classes, H, W].
            target: Class map [H, W].
        """
        count = min(self._each, target.size)
        chosen = self._rng.choice(target.size, count, replace=False, shuffle=False)
        self._logits.append(logits.reshape(len(logits), -1)[:, chosen].T)
        self._targets.append(target.ravel()[chosen].astype(np.intp))

    def calibrate(self) -> Calibration | None:
        """Fits the temperature and measures; ``None`` without any pixel."""
        if not self._targets:
            return None
        logits, targets = np.concatenate(self._logits), np.concatenate(self._targets)
        temperature = fit_temperature(logits, targets)
        return Calibration(
            temperature,
            before=Reliability.of(logits, targets),
            after=Reliability.of(logits, targets, temperature=temperature),
        )


def fit_temperature(logits: Logits, targets: Targets) -> float:
    """The temperature in [0.25, 8] with the least negative log-likelihood.

    Args:
        logits: float32 [N, classes].
        targets: Class of each, [N].
    """
    picked = np.arange(len(targets)), targets

    def loss(log_temperature: float) -> float:
        return -float(_log_probabilities(logits, math.exp(log_temperature))[picked].mean())

    low, high = (math.log(value) for value in _TEMPERATURES)
    found: Any = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return math.exp(found.x)


def _log_probabilities(logits: Logits, temperature: float) -> npt.NDArray[np.float64]:
    scaled: Any = log_softmax(logits.astype(np.float64) / temperature, axis=1)
    return np.asarray(scaled)
