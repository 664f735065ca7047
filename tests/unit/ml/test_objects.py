"""Objects from class maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from histill.core.manifests import DatasetManifest, LabelKind
from histill.distill.examples import class_map
from histill.ml.objects import split_objects
from histill.ml.panoptic import match_objects

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


@pytest.fixture
def nuclei() -> npt.NDArray[np.uint16]:
    """Numbers of two touching discs, and of one alone, on 48 x 64 pixels."""
    rows, columns = np.mgrid[:48, :64]
    left = np.hypot(rows - 16, columns - 14) < 10
    right = np.hypot(rows - 16, columns - 32) < 10
    alone = np.hypot(rows - 36, columns - 52) < 8
    return np.select([left, right, alone], [1, 2, 7]).astype(np.uint16)


@pytest.fixture
def to_classes() -> Callable[..., npt.NDArray[np.uint8]]:
    """Makes a class map from object numbers as the trainer does."""

    def make(label: npt.NDArray[np.uint16], *classes: str) -> npt.NDArray[np.uint8]:
        manifest = DatasetManifest.model_validate(
            {
                "name": "nuclei",
                "version": 1,
                "classes": classes,
                "channels": 1,
                "label_kind": LabelKind.INSTANCE,
                "splits": {},
                "create_time": "2026-01-01T00:00:00Z",
                "files": (),
            }
        )
        return class_map(label, manifest)

    return make


def test_contours_keep_touching_nuclei_apart(
    nuclei: npt.NDArray[np.uint16], to_classes: Callable[..., npt.NDArray[np.uint8]]
) -> None:
    """What became inside and contour becomes the same objects again, to the pixel."""
    found = split_objects(to_classes(nuclei, "background", "inside", "contour"), classes=3)
    assert found.dtype == np.int32
    assert match_objects(found, nuclei).pq > 0.97
    assert found.max() == 3
    assert ((found > 0) == (nuclei > 0)).all()


def test_two_classes_merge_what_touches(
    nuclei: npt.NDArray[np.uint16], to_classes: Callable[..., npt.NDArray[np.uint8]]
) -> None:
    """Without contours two touching nuclei are one object."""
    assert split_objects(to_classes(nuclei, "background", "nucleus"), classes=2).max() == 2


def test_pixels_that_meet_at_a_corner_are_two_objects() -> None:
    """Only pixels that share a side are connected."""
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:4, :4] = mask[4:, 4:] = 1
    assert split_objects(mask, classes=2).max() == 2


def test_specks_are_dropped_and_numbers_close_up() -> None:
    """Nine pixels are none, ten are one, and the numbers have no gap."""
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[0:3, 0:3] = 1
    mask[5:7, 10:15] = 1
    assert np.unique(split_objects(mask, classes=2)).tolist() == [0, 1]


def test_a_contour_far_from_any_inside_belongs_to_nothing() -> None:
    """Contour pixels join within three pixels, no further."""
    mask = np.zeros((9, 20), dtype=np.uint8)
    mask[2:7, :4] = 1
    mask[4, 4:14] = 2
    found = split_objects(mask, classes=3)
    assert found[4].tolist() == [1] * 7 + [0] * 13


@pytest.mark.parametrize("classes", [2, 3])
def test_an_empty_mask_has_no_objects(classes: int) -> None:
    """All background stays all 0."""
    assert not split_objects(np.zeros((5, 7), dtype=np.uint8), classes=classes).any()


def test_other_numbers_of_classes_are_refused() -> None:
    """Four classes say nothing about objects."""
    with pytest.raises(ValueError, match="two or three"):
        split_objects(np.zeros((2, 2), dtype=np.uint8), classes=4)
