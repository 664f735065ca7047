"""Masks as GeoJSON, as QuPath imports it: one annotation for each object."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from histill.core.errors import InvalidArgumentError
from histill.ml.colors import color
from histill.ml.polygons import trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.ml.polygons import Part

_UM_PER_MM = 1000
_DIGITS = 3  # of a coordinate behind the point: a nanometre, or a thousandth of a pixel
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


def check(outlines: Outlines, spacing: tuple[float, float] | None) -> None:
    """Finds out before the work whether outlines can be written so.

    Raises:
        InvalidArgumentError: The tolerance is out of range, or micrometres are asked for and
            the size of a pixel is not known; names the field.
    """
    if not 0 <= outlines.tolerance <= MAX_TOLERANCE:
        raise InvalidArgumentError.of(
            "geojson.tolerance", f"{outlines.tolerance:g} is not in [0, {MAX_TOLERANCE:g}]"
        )
    if outlines.micrometres and spacing is None:
        raise InvalidArgumentError.of(
            "geojson.micrometres",
            "the file does not say how large a pixel is; give pixel_size_um too",
        )


def geojson(
    mask: npt.NDArray[np.uint8],
    classes: Sequence[str],
    outlines: Outlines = PLAIN,
    spacing: tuple[float, float] | None = None,
) -> bytes:
    """A FeatureCollection of polygons with holes.

    Args:
        mask: Class indices, uint8 [H, W].
        classes: Names; the index is the value in the mask, and 0 is left out.
        outlines: How to write them.
        spacing: Millimetres from row to row and from column to column, for micrometres.

    Returns:
        UTF-8, gzip-compressed when asked for. Coordinates count from the upper left corner;
        see ``histill.ml.polygons``.
    """
    scale = np.ones(2)
    if outlines.micrometres and spacing is not None:
        scale = _UM_PER_MM * np.array(spacing[::-1])  # x goes along the columns
    features = [
        {
            "type": "Feature",
            "geometry": _geometry(parts, outlines.tolerance, scale),
            "properties": {
                "objectType": "annotation",
                "classification": {"name": name, "color": list(color(index))},
            },
        }
        for index, name in enumerate(classes)
        if index
        for parts in trace(mask == index)
    ]
    collection = {"type": "FeatureCollection", "features": features}
    data = json.dumps(collection, separators=(",", ":")).encode()
    # Without a time: the same mask gives the same bytes.
    return gzip.compress(data, mtime=0) if outlines.gzip else data


def _geometry(
    parts: Sequence[Part], tolerance: float, scale: npt.NDArray[np.float64]
) -> dict[str, Any]:
    polygons = [_rings(part, tolerance, scale) for part in parts]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _rings(part: Part, tolerance: float, scale: npt.NDArray[np.float64]) -> list[Any]:
    """The outline, then the holes."""
    rings: list[Any] = [part.outline, *part.holes]
    if tolerance:
        # GEOS keeps rings simple, holes inside, and whatever is smaller than the tolerance.
        found: Any = shapely.Polygon(part.outline, part.holes).simplify(tolerance)
        rings = [ring.coords for ring in (found.exterior, *found.interiors)]
    elif (scale == 1).all():
        return rings
    return [(np.array(ring) * scale).round(_DIGITS).tolist() for ring in rings]
