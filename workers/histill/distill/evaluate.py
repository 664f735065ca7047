"""Scores a network on full validation images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.distill.calibration import PixelSample
from histill.ml.metrics import hd95, score_image, summarize, summarize_classes
from histill.ml.objects import split_objects
from histill.ml.panoptic import Panoptic, match_objects

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.distill.calibration import Calibration
    from histill.distill.examples import Example
    from histill.distill.predict import Predictor
    from histill.ml.metrics import Scores

    Pairs = list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]

_OBJECT_CLASSES = frozenset({2, 3})  # background and object, or background, inside, contour


@dataclass(frozen=True)
class Evaluation:
    """Scores of all images, with what the report shows of them.

    Attributes:
        scores: Over all images together, mean over foreground classes.
        per_image: Mean Dice of each image, float64 [N]; NaN where all classes are absent.
        masks: Predicted class map of each image, uint8 [H, W].
        by_class: Scores of each foreground class.
        confusion: Pixels by class in the reference (row) and as predicted (column),
            int64 [classes, classes].
        hd95: 95th percentile of the surface distance in pixels, mean over images and
            foreground classes, the image's diagonal where ``misses`` counts; NaN when
            not asked for, or nothing is there.
        misses: Times a class is in the reference or the prediction of an image, but not
            in both.
        panoptic: Of single objects, when asked for.
        calibration: When asked for.
    """

    scores: Scores
    per_image: npt.NDArray[np.float64]
    masks: list[npt.NDArray[np.uint8]]
    by_class: list[Scores]
    confusion: npt.NDArray[np.int64]
    hd95: float = float("nan")
    misses: int = 0
    panoptic: Panoptic | None = None
    calibration: Calibration | None = None


def evaluate(
    predictor: Predictor,
    examples: Sequence[Example],
    *,
    classes: int,
    surfaces: bool = True,
    thorough: bool = True,
    objects: bool = False,
) -> Evaluation:
    """Predicts and scores every labelled image.

    Args:
        predictor: The network.
        examples: Images with class maps; those without are skipped.
        classes: Number of classes, with the background.
        surfaces: Whether to measure surfaces and what follows too; without, only overlaps
            are counted, which is cheap.
        thorough: Whether to measure distances, objects and calibration too, once all
            training is done.
        objects: Whether the classes stand for single objects, which are then counted.
    """
    thorough = thorough and surfaces
    masks, targets, rows = [], [], []
    sample = PixelSample(images=len(examples), classes=classes)
    for example in examples:
        if example.target is None:
            continue
        logits = predictor.logits(example.image)
        masks.append(logits.argmax(axis=0).astype(np.uint8))
        targets.append(example.target)
        rows.append(score_image(masks[-1], example.target, classes=classes, surfaces=surfaces))
        if thorough:
            sample.add(logits, example.target)
    per_image = np.array([summarize([row]).dice for row in rows])
    pairs = list(zip(masks, targets, strict=True))
    distance, misses = _reaches(pairs, classes) if thorough else (float("nan"), 0)
    return Evaluation(
        summarize(rows),
        per_image,
        masks,
        by_class=summarize_classes(rows),
        confusion=_confusion(pairs, classes),
        hd95=distance,
        misses=misses,
        panoptic=_matches(pairs, classes) if thorough and objects else None,
        calibration=sample.calibrate() if thorough else None,
    )


def _confusion(pairs: Pairs, classes: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(classes * classes, dtype=np.int64)
    for mask, target in pairs:
        cells = target.astype(np.intp) * classes + mask
        counts += np.bincount(cells.ravel(), minlength=classes * classes)
    return counts.reshape(classes, classes)


def _reaches(pairs: Pairs, classes: int) -> tuple[float, int]:
    distances, misses = [], 0
    for mask, target in pairs:
        for index in range(1, classes):
            ours, theirs = mask == index, target == index
            distances.append(hd95(ours, theirs))
            misses += bool(ours.any() != theirs.any())
    known = [distance for distance in distances if not np.isnan(distance)]
    return (float(np.mean(known)) if known else float("nan")), misses


def _matches(pairs: Pairs, classes: int) -> Panoptic | None:
    if classes not in _OBJECT_CLASSES:
        return None
    total = Panoptic()
    for mask, target in pairs:
        ours, theirs = (split_objects(plane, classes=classes) for plane in (mask, target))
        total += match_objects(ours, theirs)
    return total
