"""Scores a network on full validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.ml.metrics import score_image, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.distill.examples import Example
    from histill.distill.predict import Predictor
    from histill.ml.metrics import Scores


@dataclass(frozen=True)
class Evaluation:
    """Scores of all images, with what the report shows of them.

    Attributes:
        scores: Over all images together, mean over foreground classes.
        per_image: Mean Dice of each image, float64 [N]; NaN where all classes are absent.
        masks: Predicted class map of each image, uint8 [H, W].
    """

    scores: Scores
    per_image: npt.NDArray[np.float64]
    masks: list[npt.NDArray[np.uint8]]


def evaluate(
    predictor: Predictor, examples: Sequence[Example], *, classes: int, surfaces: bool = True
) -> Evaluation:
    """Predicts and scores every labelled image.

    Args:
        predictor: The network.
        examples: Images with class maps; those without are skipped.
        classes: Number of classes, with the background.
        surfaces: Whether to compute the surface Dice too.
    """
    masks, rows = [], []
    for example in examples:
        if example.target is None:
            continue
        masks.append(predictor.logits(example.image).argmax(axis=0).astype(np.uint8))
        rows.append(score_image(masks[-1], example.target, classes=classes, surfaces=surfaces))
    per_image = np.array([summarize([row]).dice for row in rows])
    return Evaluation(summarize(rows), per_image, masks)
