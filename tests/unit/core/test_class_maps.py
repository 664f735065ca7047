"""Teachers' classes in a dataset's."""

from __future__ import annotations

import pytest

from histill.core.class_maps import class_index
from histill.core.errors import InvalidArgumentError

DATASET = ("background", "nucleus", "gland")


@pytest.mark.parametrize(
    ("teacher", "mapped", "index"),
    [
        (DATASET, None, (0, 1, 2)),
        (("background", "gland", "nucleus"), None, (0, 2, 1)),
        (("other", "gland", "vessel"), None, (0, 2, 0)),
        (("other", "tumour", "immune"), {"tumour": "nucleus", "immune": "nucleus"}, (0, 1, 1)),
        (("other", "nucleus"), {"nucleus": "gland"}, (0, 2)),
    ],
)
def test_classes_go_by_name_or_by_the_map(
    teacher: tuple[str, ...], mapped: dict[str, str] | None, index: tuple[int, ...]
) -> None:
    """Equal names are equal without a map; with one, only what stands in it counts."""
    assert class_index(teacher, DATASET, mapped) == index


@pytest.mark.parametrize(
    ("mapped", "words"),
    [
        ({"tumor": "nucleus"}, "names tumor; the teacher's classes are other, tumour"),
        ({"tumour": "nuclei"}, "names nuclei; the dataset's classes are background"),
        ({"other": "background"}, "no class of the teacher"),
        (None, "no class of the teacher"),
    ],
)
def test_a_map_that_fits_nothing_is_refused(mapped: dict[str, str] | None, words: str) -> None:
    """Names that are not there, and teachers without a common class, are told."""
    with pytest.raises(InvalidArgumentError, match=words):
        class_index(("other", "tumour"), DATASET, mapped)
