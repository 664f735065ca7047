"""Weight of each pixel by its distance to the nearest class boundary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from histill.ml.neighbours import differs_from_neighbour

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.core.specs import BoundaryWeighting


def boundary_distance(
    target: npt.NDArray[np.uint8], *, spacing: float = 1.0
) -> npt.NDArray[np.float64]:
    """Exact Euclidean distance to the nearest boundary pixel.

    A boundary pixel has a direct neighbour of another class, so boundaries are two
    pixels thick, one on each side.

    Args:
        target: Class map [H, W].
        spacing: Side of a pixel; distances come in its unit.

    Returns:
        float64 [H, W]; all infinite when there is one class only.
    """
    edge = differs_from_neighbour(target)
    if not edge.any():
        return np.full(target.shape, np.inf)
    return np.asarray(distance_transform_edt(~edge), dtype=np.float64) * spacing


def boundary_weight(
    target: npt.NDArray[np.uint8],
    weighting: BoundaryWeighting,
    *,
    spacing: float = 1.0,
    fuzziness: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Pixel weights that rise towards class boundaries, of mean 1.

    ``distance``: ``1 + beta * exp(-d^2 / (2 * sigma^2))``; ``band``: ``1 + beta`` where
    ``d <= radius``; ``none``: 1. What is above 1 is multiplied by ``1 + fuzzy * h``.

    Args:
        target: Class map [H, W].
        weighting: Mode and its numbers.
        spacing: Side of a pixel, in the unit of ``sigma`` and ``radius``.
        fuzziness: ``h``, how unsure the teachers are, float32 [H, W] in [0, 1].

    Returns:
        float32 [H, W], positive, of mean 1.
    """
    if weighting.mode == "none":
        return np.ones(target.shape, dtype=np.float32)
    distance = boundary_distance(target, spacing=spacing)
    if weighting.mode == "distance":
        near = np.exp(-(distance**2) / (2 * weighting.sigma**2))
    else:
        near = (distance <= weighting.radius).astype(np.float64)
    if fuzziness is not None:
        near = near * (1 + weighting.fuzzy * fuzziness)
    weight = 1 + weighting.beta * near
    return np.asarray(weight / weight.mean(), dtype=np.float32)
