"""Which class of a dataset each class of a teacher is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def class_index(
    teacher: Sequence[str], dataset: Sequence[str], mapped: Mapping[str, str] | None
) -> tuple[int, ...]:
    """For each class of a teacher, the index of the dataset's.

    Args:
        teacher: Names; the first is its background.
        dataset: Names; the first is the background.
        mapped: From the teacher's names to the dataset's; ``None`` takes equal names as
            equal. Classes of the teacher that are left out are background.

    Raises:
        InvalidArgumentError: A name is not there, or no foreground class is left.
    """
    if mapped is None:
        mapped = {name: name for name in teacher if name in dataset}
    for whose, names, there in (
        ("teacher", mapped, teacher),
        ("dataset", mapped.values(), dataset),
    ):
        if unknown := [name for name in names if name not in there]:
            raise InvalidArgumentError.of(
                "class_maps",
                f"class_maps names {', '.join(unknown)}; the {whose}'s classes are "
                f"{', '.join(there)}",
            )
    index = tuple(dataset.index(mapped[name]) if name in mapped else 0 for name in teacher)
    if not any(index):
        raise InvalidArgumentError.of(
            "class_maps",
            f"no class of the teacher ({', '.join(teacher)}) is a foreground class of the "
            f"dataset ({', '.join(dataset[1:])}); say in class_maps which one is which",
        )
    return index
