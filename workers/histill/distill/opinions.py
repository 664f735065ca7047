"""What the teachers say about one image, in the classes of the dataset.

A teacher may know fewer classes than the dataset, or other ones. Its probabilities are
summed into the dataset's classes by name; what it calls background may then be a class
that it never learnt, and that share is divided as the others see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.core.class_maps import class_index
from histill.core.errors import InvalidArgumentError
from histill.distill.reasons import teacher_mismatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from histill.core.manifests import ModelManifest

    Floats = npt.NDArray[np.float32]

_EPSILON = 1e-6


@dataclass(frozen=True)
class Dictionary:
    """How one teacher's classes become the dataset's.

    Attributes:
        index: For each class of the teacher, the class of the dataset.
        known: bool [C], the classes that the teacher tells apart; background always.
    """

    index: tuple[int, ...]
    known: npt.NDArray[np.bool_]

    def translate(self, probabilities: Floats) -> Floats:
        """float32 [C, H, W] in the dataset's classes from [teacher's classes, H, W]."""
        if self.index == tuple(range(len(self.known))):
            return probabilities
        translated = np.zeros((len(self.known), *probabilities.shape[1:]), dtype=np.float32)
        for own, theirs in enumerate(self.index):
            translated[theirs] += probabilities[own]
        return translated


def dictionary(
    teacher: ModelManifest, classes: Sequence[str], mapped: Mapping[str, str] | None
) -> Dictionary:
    """The dictionary of a teacher.

    Args:
        teacher: Its classes; the first is its background.
        classes: The dataset's.
        mapped: From the teacher's names to the dataset's, or ``None``; see
            ``class_index``.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; the map names a class that is not there, or
            the teacher knows no foreground class of the dataset.
    """
    try:
        index = class_index(teacher.classes, classes, mapped)
    except InvalidArgumentError as exc:
        raise teacher_mismatch(
            f"teacher {teacher.reference}: {exc.violations[0].description}",
            hint="Write the teacher's class on the left and the dataset's on the right.",
        ) from exc
    known = np.isin(np.arange(len(classes)), index)
    known[0] = True
    return Dictionary(index, known)


def completed(probabilities: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """Divides each teacher's background over the classes that it does not know.

    The share of a class is what the teachers that know it give it, beside what the same
    teachers give the background; without such teachers nothing changes.

    Args:
        probabilities: float32 [K, C, H, W], 0 where a teacher does not know the class.
        known: bool [K, C].

    Returns:
        float32 [K, C, H, W], each pixel summing to what it did before.
    """
    if known.all():
        return probabilities
    result = probabilities.copy()
    for k, row in enumerate(known):
        unknown = [c for c in np.flatnonzero(~row).tolist() if known[:, c].any()]
        if not unknown:
            continue
        knowers = known[:, unknown].any(axis=1)
        shares = [probabilities[knowers, 0].mean(axis=0)]
        shares += [probabilities[known[:, c], c].mean(axis=0) for c in unknown]
        total = np.sum(shares, axis=0)
        ground = probabilities[k, 0]
        for c, share in zip([0, *unknown], shares, strict=True):
            even = np.float32(c == 0)  # nobody has an opinion there: it stays background
            part = np.where(total > _EPSILON, share / np.maximum(total, _EPSILON), even)
            result[k, c] = ground * part
    return result
