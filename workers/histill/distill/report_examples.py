"""The best, a middling and the worst validation image, with their masks and errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histill.distill import pictures
from histill.distill.page import boxes, heading, legend, paragraph, picture
from histill.ml.colors import COLORS, color

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from histill.distill.evaluate import Evaluation
    from histill.distill.examples import Example

_RANKS = ("Best", "Median", "Worst")
_NAMED = len(COLORS) - 1  # classes with a colour of their own


def examples(evaluation: Evaluation, validation: Sequence[Example], classes: Sequence[str]) -> str:
    """A row of pictures for each of the three images.

    Args:
        evaluation: Masks and Dice of each image.
        validation: The images, in the same order.
        classes: Names, with the background.
    """
    chosen = choose(evaluation.per_image)
    if not chosen:
        return paragraph("No validation image holds any foreground.")
    keys = {name: color(index) for index, name in enumerate(classes[1 : _NAMED + 1], start=1)}
    wrong = {"missed": pictures.MISSED, "extra": pictures.EXTRA}
    if len(classes) > 2:  # noqa: PLR2004 - with one class none is taken for another
        wrong["another class"] = pictures.CONFUSED
    rows = []
    for rank, index in chosen.items():
        example, mask = validation[index], evaluation.masks[index]
        rows.append(heading(f"{rank}: {example.key}, Dice {evaluation.per_image[index]:.3f}"))
        rows.append(boxes(_row(example, mask), "row"))
    return heading("Classes") + legend(keys) + heading("Errors") + legend(wrong) + "".join(rows)


def choose(per_image: npt.NDArray[np.float64]) -> dict[str, int]:
    """Images by rank, each once; those without any foreground have no Dice and no rank."""
    known = np.flatnonzero(~np.isnan(per_image))
    ranked = [int(i) for i in known[np.argsort(per_image[known], kind="stable")]]
    if not ranked:
        return {}
    found: dict[int, str] = {}
    for rank, index in zip(_RANKS, (ranked[-1], ranked[len(ranked) // 2], ranked[0]), strict=True):
        found.setdefault(index, rank)
    return {rank: index for index, rank in found.items()}


def _row(example: Example, mask: npt.NDArray[np.uint8]) -> Iterator[str]:
    target = example.target if example.target is not None else np.zeros_like(mask)
    wrong = float(np.mean(mask != target))
    image, mask, target = pictures.fitted(example.image, mask, target)
    shown = (
        ("image", image, "as it is"),
        ("prediction", pictures.overlay(image, mask), f"{np.mean(mask > 0):.0%} foreground"),
        ("reference", pictures.overlay(image, target), f"{np.mean(target > 0):.0%} foreground"),
        ("errors", pictures.errors(image, mask, target), f"{wrong:.1%} of the pixels are wrong"),
    )
    for name, pixels, words in shown:
        yield picture(
            pictures.jpeg(pixels),
            kind="image/jpeg",
            alt=f"{example.key}, {name}: {words}",
            caption=name,
        )
