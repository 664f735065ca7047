"""Teachers with other classes than the dataset's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from histill.core.errors import WorkFailedError
from histill.distill.opinions import completed, dictionary

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.core.manifests import ModelManifest

CLASSES = ("background", "nucleus", "gland")


def test_equal_names_are_equal_classes(model_manifest: Callable[..., ModelManifest]) -> None:
    """Without a map, names decide, in whatever order they stand."""
    teacher = model_manifest(classes=("background", "gland", "nucleus"))
    words = dictionary(teacher, CLASSES, None)
    assert words.index == (0, 2, 1)
    assert words.known.tolist() == [True, True, True]
    said = np.array([0.5, 0.3, 0.2], dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(words.translate(said).ravel(), [0.5, 0.2, 0.3])


def test_several_classes_of_a_teacher_may_be_one(
    model_manifest: Callable[..., ModelManifest],
) -> None:
    """Kinds of nuclei add up to nuclei; what is left out adds to the background."""
    teacher = model_manifest(classes=("other", "tumour", "immune", "vessel"))
    words = dictionary(teacher, CLASSES, {"tumour": "nucleus", "immune": "nucleus"})
    assert words.known.tolist() == [True, True, False]
    said = np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(words.translate(said).ravel(), [0.5, 0.5, 0.0])


def test_a_map_that_fits_nothing_is_a_mismatch(
    model_manifest: Callable[..., ModelManifest],
) -> None:
    """What the map lacks is told with the teacher's name."""
    teacher = model_manifest(classes=("other", "tumour"))
    with pytest.raises(WorkFailedError, match="teacher teacher@1: class_maps") as caught:
        dictionary(teacher, CLASSES, {"tumor": "nucleus"})
    assert caught.value.reason == "TEACHER_MISMATCH"


def _pixels(*rows: Any) -> Any:
    """Teachers' probabilities [K, C] as [K, C, 1, 1]."""
    return np.array(rows, dtype=np.float32)[:, :, None, None]


def test_background_is_divided_as_those_who_know_see_it() -> None:
    """A share for an unknown class goes the way of the teacher that knows it."""
    known = np.array([[True, True, False], [True, True, True]])
    got = completed(_pixels([0.8, 0.2, 0.0], [0.3, 0.1, 0.6]), known)[..., 0, 0]
    np.testing.assert_allclose(got[0], [0.8 / 3, 0.2, 0.8 * 2 / 3], rtol=1e-5)
    np.testing.assert_allclose(got[1], [0.3, 0.1, 0.6], rtol=1e-6)


def test_a_class_that_nobody_knows_stays_background() -> None:
    """With no knower there is nothing to divide by."""
    known = np.array([[True, True, False]] * 2)
    said = _pixels([0.8, 0.2, 0.0], [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(completed(said, known), said)


def test_where_the_knowers_see_a_third_class_background_stays() -> None:
    """Knowers that give neither background nor the class a share leave it as it was."""
    known = np.array([[True, True, False], [True, True, True]])
    got = completed(_pixels([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]), known)[0, :, 0, 0]
    np.testing.assert_allclose(got, [1, 0, 0])
