"""Carries what teachers scored on labelled images over to images that look alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from histill.core.manifests import Normalization

    Floats = npt.NDArray[np.float32]

_WIDTH = 1.5  # of the kernel, in distances to the nearest labelled image
_TINY = 1e-6  # between images that are all alike
_SAMPLE = 512  # images on which distances are gauged
_REACH = 3.0  # typical distances between neighbours, beyond which nothing is carried over
_OWN_KIND = 1.0  # standard deviations between means that are no sign of another kind


def familiarity(image: npt.NDArray[np.uint8], normalization: Normalization) -> float:
    """Whether an image is like those a teacher was trained on, in [0, 1].

    1 while its channel means lie within one standard deviation of the teacher's, then
    falling as a Gaussian. A teacher that scales each image by itself gets 1.
    """
    if normalization.scaling != "constant":
        return 1.0
    mean = image.mean(axis=(0, 1)) / 255
    apart = np.abs(mean - np.array(normalization.mean)) / np.array(normalization.std)
    return float(np.exp(-0.5 * max(0.0, float(apart.mean()) - _OWN_KIND) ** 2))


@dataclass(frozen=True)
class Evidence:
    """What labelled images tell about one without labels.

    Attributes:
        table: Expected score, float32 [K, R, C]; NaN where no labelled image tells.
        shift: Score less estimate on the labelled images, float32 [K, R, C], without NaN.
        trust: In [0, 1]; the rest goes to the shifted estimate.
    """

    table: Floats
    shift: Floats
    trust: float


class Transfer:
    """Scores of labelled images, for images without labels.

    Args:
        looks: Of all images, float32 [N, D].
        tables: Score and estimate, float32 [K, R, C] each, by index of a labelled image;
            NaN where an image does not tell. At least one.
    """

    def __init__(self, looks: Floats, tables: Mapping[int, tuple[Floats, Floats]]) -> None:
        self._near = Neighbours(looks, list(tables))
        self._tables = np.stack([table for table, _ in tables.values()])
        apart = self._tables - np.stack([estimate for _, estimate in tables.values()])
        weights = np.ones(len(apart), dtype=np.float32)
        self._shift = np.nan_to_num(_mean(apart, weights)).astype(np.float32)

    def evidence(self, index: int) -> Evidence:
        """What the labelled images tell about one image."""
        weights, trust = self._near.weights(index)
        return Evidence(_mean(self._tables, weights), self._shift, trust)


def _mean(tables: Floats, weights: Floats) -> Floats:
    """Weighted mean over the first axis of what is not NaN; NaN where all is."""
    told = ~np.isnan(tables)
    share = np.tensordot(weights, told.astype(np.float32), axes=1)
    total = np.tensordot(weights, np.where(told, tables, 0), axes=1)
    return np.where(share > 0, total / np.where(share > 0, share, 1), np.nan).astype(np.float32)


class Neighbours:
    """For each image without labels, how much each labelled one tells about it.

    Args:
        looks: Of all images, float32 [N, D], all in the same unit; they set the scale.
        labeled: Index of each labelled image, at least one.
    """

    def __init__(self, looks: Floats, labeled: Sequence[int]) -> None:
        self._looks = looks
        self._labeled = list(labeled)
        sample = self._looks[:: max(1, len(looks) // _SAMPLE)]
        apart = cdist(sample, sample)
        np.fill_diagonal(apart, np.inf)
        nearest = apart.min(axis=1)
        self._typical = float(np.median(nearest)) if len(sample) > 1 else 1.0

    def weights(self, index: int) -> tuple[Floats, float]:
        """Weights of the labelled images for one image, and how far to trust them.

        A Gaussian one and a half times as wide as the distance to the nearest labelled
        image, or as typical between neighbours; trust falls once the nearest is several
        times as far as that.

        Returns:
            float32 [L], summing to one; trust in [0, 1].
        """
        apart = cdist(self._looks[index][None], self._looks[self._labeled])[0]
        nearest = float(apart.min())
        width = _WIDTH * max(nearest, self._typical, _TINY)
        kernel = np.exp(-0.5 * (apart / width) ** 2)
        beyond = max(0.0, nearest / max(_REACH * self._typical, _TINY) - 1)
        return (kernel / kernel.sum()).astype(np.float32), float(np.exp(-0.5 * beyond**2))
