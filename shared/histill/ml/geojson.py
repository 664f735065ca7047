"""Masks as GeoJSON, as QuPath imports it: one annotation for each object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from histill.core.errors import InvalidArgumentError
from histill.ml.colors import color

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.ml.polygons import Part, Ring

_UM_PER_MM = 1000
_DIGITS = 3  # of a coordinate in pixels, behind the point
_LEAST_CORNERS = 4  # of a closed ring, whose first is also its last
MAX_TOLERANCE = 100.0


@dataclass(frozen=True)
class Outlines:
    """How outlines are written.

    Attributes:
        tolerance: How far a simplified outline may be from the edges of the pixels, in pixels,
            in [0, 100]; 0 keeps every corner, and filling gives the mask back.
        gzip: Compressed, as QuPath also reads it.
        micrometres: Coordinates in micrometres rather than in pixels.
    """

    tolerance: float = 0.0
    gzip: bool = False
    micrometres: bool = False


PLAIN = Outlines()


def checked(outlines: Outlines) -> Outlines:
    """The same, within their range.

    Raises:
        InvalidArgumentError: The tolerance is out of range; names the field.
    """
    if not 0 <= outlines.tolerance <= MAX_TOLERANCE:
        raise InvalidArgumentError.of(
            "geojson.tolerance", f"{outlines.tolerance:g} is not in [0, {MAX_TOLERANCE:g}]"
        )
    return outlines


def check_units(outlines: Outlines, spacing: tuple[float, float] | None) -> None:
    """Finds out before the work whether outlines can be written so.

    Raises:
        InvalidArgumentError: Micrometres are asked for and the size of a pixel is not known.
    """
    if outlines.micrometres and spacing is None:
        raise InvalidArgumentError.of(
            "geojson.micrometres",
            "the file does not say how large a pixel is; give pixel_size_um too",
        )


def feature(
    parts: Sequence[Part],
    classes: Sequence[str],
    index: int,
    outlines: Outlines = PLAIN,
    spacing: tuple[float, float] | None = None,
    *,
    corner: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """One object.

    Args:
        parts: Of ``polygons.trace``.
        classes: Names.
        index: Of its class.
        outlines: How to write it.
        spacing: Millimetres from row to row and from column to column, for micrometres.
        corner: Row and column of the image at which the mask begins in which it was traced.

    Returns:
        A GeoJSON Feature. Coordinates count from the upper left corner of the image; see
        ``histill.ml.polygons``.
    """
    scale = np.ones(2)
    if outlines.micrometres and spacing is not None:
        scale = _UM_PER_MM * np.array(spacing[::-1])  # x goes along the columns
    rings = [[_moved(ring, corner) for ring in (part.outline, *part.holes)] for part in parts]
    return {
        "type": "Feature",
        "geometry": _geometry(rings, outlines.tolerance, scale),
        "properties": {
            "objectType": "annotation",
            "classification": {"name": classes[index], "color": list(color(index))},
        },
    }


def _moved(ring: Ring, corner: tuple[int, int]) -> Ring:
    row, column = corner
    return [(x + column, y + row) for x, y in ring] if row or column else ring


def _geometry(
    parts: list[list[Ring]], tolerance: float, scale: npt.NDArray[np.float64]
) -> dict[str, Any]:
    rings: list[list[Any]] = _simplified(parts, tolerance) if tolerance else parts
    if not (scale == 1).all():
        # A thousandth of a pixel, however small pixels are.
        digits = max(0, _DIGITS - math.floor(math.log10(scale.min())))
        rings = [[(np.array(r) * scale).round(digits).tolist() for r in part] for part in rings]
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings[0]}
    return {"type": "MultiPolygon", "coordinates": rings}


def _simplified(parts: list[list[Ring]], tolerance: float) -> list[list[Any]]:
    """An object's rings with fewer corners; as they were, where simpler ones would cross.

    Each ring on its own (Douglas and Peucker), which takes little more than linear time:
    keeping the topology while simplifying takes minutes on a mask of noise.
    """
    found = [[_fewer(ring, tolerance) for ring in part] for part in parts]
    # A hole may vanish, an outline may not.
    kept = [[part[0], *filter(len, part[1:])] for part in found]
    if not all(len(part[0]) for part in kept):
        return parts
    whole = shapely.MultiPolygon([(part[0], part[1:]) for part in kept])
    return kept if whole.is_valid else parts


def _fewer(ring: Ring, tolerance: float) -> list[list[float]]:
    """A closed ring with fewer corners; empty where it is smaller than the tolerance."""
    simple = shapely.LinearRing(ring).simplify(tolerance, preserve_topology=False)
    points = shapely.get_coordinates(simple).tolist()
    enclosed = len(points) >= _LEAST_CORNERS and shapely.Polygon(points).area > 0
    return points if enclosed else []
