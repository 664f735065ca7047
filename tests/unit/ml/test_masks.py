"""Masks written and read back."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image as Pillow
from PIL import ImageDraw
from pycocotools import mask as coco
from scipy.ndimage import label

from histill.core.errors import ResourceExhaustedError
from histill.ml import features, images, masks
from histill.ml.features import FeatureStream
from histill.ml.masks import Format, MaskContext
from histill.ml.polygons import trace
from pictures import geojson

CLASSES = ("background", "nuclei", "tumour")
SCALE = 4
MASKS = arrays(
    np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 2)
)


def filled(geometry: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """A geometry drawn by Pillow, enlarged, and looked at in the middle of each pixel."""
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    found = np.zeros(shape, bool)
    for outline, *holes in polygons:
        canvas = Pillow.new("1", (SCALE * shape[1], SCALE * shape[0]))
        draw = ImageDraw.Draw(canvas)
        for value, ring in ((1, outline), *((0, hole) for hole in holes)):
            scaled = [(SCALE * x, SCALE * y) for x, y in ring]
            if value:
                draw.polygon(scaled, fill=1)
            else:
                # Pillow draws the edge of what it fills, which belongs to the outside here.
                hole = Pillow.new("1", canvas.size)
                ImageDraw.Draw(hole).polygon(scaled, fill=1)
                canvas.paste(0, mask=hole)
        found |= np.asarray(canvas)[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    return found


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_polygons_fill_to_the_mask(mask: np.ndarray) -> None:
    """The features of a class, drawn by another library, are its pixels; one an object."""
    collection = json.loads(geojson(mask, CLASSES))
    for index, name in enumerate(CLASSES[1:], start=1):
        features = [
            each
            for each in collection["features"]
            if each["properties"]["classification"]["name"] == name
        ]
        found = np.zeros(mask.shape, bool)
        for feature in features:
            drawn = filled(feature["geometry"], mask.shape)
            assert not (found & drawn).any()
            found |= drawn
        np.testing.assert_array_equal(found, mask == index)
        assert len(features) == label(mask == index, np.ones((3, 3)))[1]


@settings(max_examples=300, deadline=None)
@given(MASKS, st.integers(1, 5))
def test_features_that_come_by_rows_are_the_same(mask: np.ndarray, rows: int) -> None:
    """Objects are cut nowhere, and none comes twice."""
    whole = json.loads(geojson(mask, CLASSES))["features"]
    streamed = json.loads(geojson(mask, CLASSES, rows=rows))["features"]
    drawn = [
        sorted((each["properties"]["classification"]["name"], _pixels(each, mask)) for each in one)
        for one in (whole, streamed)
    ]
    assert drawn[0] == drawn[1]


def _pixels(feature: dict[str, Any], mask: np.ndarray) -> bytes:
    return filled(feature["geometry"], (mask.shape[0], mask.shape[1])).tobytes()


def test_objects_are_handed_out_when_they_end() -> None:
    """What was written of an object does not wait for the image's end; rows above are let go."""
    mask = np.zeros((40, 6), np.uint8)
    mask[2:4, 1:3] = 1
    mask[8:31, 4] = 2
    stream = FeatureStream(40, CLASSES)
    first, second, third, fourth = (stream.add(mask[at : at + 10]) for at in range(0, 40, 10))
    assert b"nuclei" in first
    assert second == third == b""
    assert b"tumour" in fourth
    found = json.loads(first + second + third + fourth + stream.end())
    assert [len(each["geometry"]["coordinates"]) for each in found["features"]] == [1, 1]


def test_wide_masks_are_traced_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects are whole and in their places wherever strips of columns end."""
    mask = np.random.default_rng(1).integers(0, 3, (12, 70), np.uint8)
    whole = json.loads(geojson(mask, CLASSES))["features"]
    monkeypatch.setattr(features, "_STRIP", 8)
    strips = json.loads(geojson(mask, CLASSES))["features"]
    assert sorted(map(json.dumps, whole)) == sorted(map(json.dumps, strips))


def test_an_object_too_large_to_be_outlined_says_what_else_works() -> None:
    """Rows are kept for open objects only so far."""
    stream = FeatureStream(1000, CLASSES, most_held=100)
    with pytest.raises(ResourceExhaustedError, match="MASK_FORMAT_PNG"):
        stream.add(np.ones((20, 10), np.uint8))


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_rings_are_simple_and_closed(mask: np.ndarray) -> None:
    """No ring meets itself, each turns at every point, and outlines run against holes."""
    for parts in trace(mask > 0):
        for part in parts:
            for ring, sign in ((part.outline, 1), *((hole, -1) for hole in part.holes)):
                assert ring[0] == ring[-1]
                assert len(set(ring)) == len(ring) - 1
                x, y = np.array(ring).T
                assert sign * np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0
                flat = np.diff(y) == 0
                assert (flat[1:] != flat[:-1]).all()


def test_geojson_is_what_qupath_reads() -> None:
    """A hole, two corners that touch, names and colours."""
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, 1:4] = 1
    mask[2, 2] = 0
    mask[4, 4] = 1
    collection = json.loads(geojson(mask, CLASSES))
    assert collection["type"] == "FeatureCollection"
    (feature,) = collection["features"]
    assert feature["type"] == "Feature"
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"] == {"name": "nuclei", "color": [230, 159, 0]}
    assert feature["geometry"]["type"] == "MultiPolygon"
    rings = sorted(len(polygon) for polygon in feature["geometry"]["coordinates"])
    assert rings == [1, 2]


def test_an_empty_mask_has_no_features() -> None:
    """Nothing found is an empty collection."""
    assert json.loads(geojson(np.zeros((3, 3), np.uint8), CLASSES))["features"] == []


# pycocotools is a little behind NumPy.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_run_lengths_are_coco(mask: np.ndarray) -> None:
    """Pycocotools decodes each class to its pixels."""
    annotations = json.loads(masks.rle(mask, CLASSES))
    assert [each["category_id"] for each in annotations] == [1, 2]
    for each in annotations:
        decoded = coco.decode(each["segmentation"])
        np.testing.assert_array_equal(decoded, mask == each["category_id"])
        assert each["area"] == decoded.sum()


@pytest.mark.parametrize("form", [Format.PNG, Format.RAW, Format.RLE])
def test_masks_that_come_by_rows_are_the_same(form: Format) -> None:
    """However many rows come at a time, the file shows the same mask."""
    mask = np.random.default_rng(0).integers(0, 3, (37, 23), np.uint8)
    context = MaskContext(images.Image(np.zeros((37, 23, 1), np.uint8)), CLASSES, "nuclei@1")
    stream = masks.writer(form, context)
    pieces = [stream.add(mask[start : start + 5]) for start in range(0, 37, 5)]
    streamed, whole = b"".join([*pieces, stream.end()]), masks.encode(mask, form, context)
    if form is Format.PNG:
        shown = [np.asarray(Pillow.open(io.BytesIO(each))) for each in (streamed, whole)]
        np.testing.assert_array_equal(shown[0], mask)
        np.testing.assert_array_equal(shown[1], mask)
    else:
        assert streamed == whole


def test_png_holds_indices_and_colours() -> None:
    """The PNG is palette-based and its values are the mask's."""
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    with Pillow.open(io.BytesIO(masks.png(mask))) as opened:
        assert opened.mode == "P"
        np.testing.assert_array_equal(np.asarray(opened), mask)
        palette = opened.getpalette()
    assert palette is not None
    assert palette[:6] == [0, 0, 0, 230, 159, 0]


def test_confidence_is_grey() -> None:
    """Probabilities times 255."""
    values = np.array([[0, 0.5, 1]], np.float16)
    with Pillow.open(io.BytesIO(masks.confidence_png(values))) as opened:
        assert np.asarray(opened).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("kind", ["f2", "f4"])
def test_confidence_of_many_rows(kind: str) -> None:
    """However large the map, each pixel has its nearest value."""
    values = np.random.default_rng(0).random((701, 600)).astype(kind)
    with Pillow.open(io.BytesIO(masks.confidence_png(values))) as opened:
        found = np.asarray(opened)
    np.testing.assert_array_equal(found, np.rint(values.astype(np.float32) * 255))


@pytest.mark.parametrize("form", [Format.PNG, Format.GEOJSON, Format.RLE, Format.RAW])
def test_every_format_writes(form: Format) -> None:
    """Formats that need no DICOM write any image's mask."""
    image = images.from_raw(bytes(12), height=3, width=4, channels=1)
    mask = np.zeros((3, 4), np.uint8)
    assert masks.encode(mask, form, MaskContext(image, CLASSES, "nuclei@1"))
