"""Scores of a network on whole images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from histill.distill.evaluate import evaluate
from histill.distill.examples import Example
from histill.distill.predict import Predictor

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from torch import Tensor


class Reading(nn.Module):
    """Knows the class: it is what the image's first channel says."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, image: Tensor) -> Tensor:
        """Logits of 4 for that class, 0 for others."""
        return 4 * nn.functional.one_hot(image[:, 0].long(), self.classes).movedim(3, 1).float()


@pytest.fixture
def predictor() -> Callable[[int], Predictor]:
    """Makes a predictor that reads its answer from the image."""
    return lambda classes: Predictor(Reading(classes), 1, torch.device("cpu"))


def read(said: npt.NDArray[Any], truth: npt.NDArray[Any] | None) -> Example:
    """An image whose prediction will be ``said``."""
    target = None if truth is None else truth.astype(np.uint8)
    return Example("x", said.astype(np.uint8)[..., None], target)


def squares(*corners: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Squares of 10 x 10 pixels on 30 x 40 pixels."""
    mask = np.zeros((30, 40), dtype=np.uint8)
    for row, column in corners:
        mask[row : row + 10, column : column + 10] = 1
    return mask


def test_confusion_counts_pixels_by_reference_and_prediction(
    predictor: Callable[[int], Predictor],
) -> None:
    """Rows are the reference, columns the prediction, over all images."""
    truth, said = np.array([[0, 1, 2, 2]]), np.array([[0, 1, 1, 2]])
    got = evaluate(predictor(3), [read(said, truth)] * 2, classes=3)
    assert got.confusion.tolist() == [[2, 0, 0], [0, 2, 0], [0, 2, 2]]
    assert [scores.dice for scores in got.by_class] == pytest.approx([2 / 3, 2 / 3])


def test_missed_objects_cost_the_diagonal(predictor: Callable[[int], Predictor]) -> None:
    """A missed object and an invented one are counted, an empty image is not."""
    one, empty = squares((2, 2)), squares()
    examples = [read(one, one), read(empty, one), read(one, empty), read(empty, empty)]
    got = evaluate(predictor(2), examples, classes=2)
    assert got.hd95 == pytest.approx((0 + 50 + 50) / 3)
    assert got.misses == 2


def test_objects_are_counted_when_asked_for(predictor: Callable[[int], Predictor]) -> None:
    """One of two objects found: PQ is 1 / (1 + 1/2)."""
    examples = [read(squares((2, 2)), squares((2, 2), (15, 20)))]
    assert evaluate(predictor(2), examples, classes=2).panoptic is None
    got = evaluate(predictor(2), examples, classes=2, objects=True).panoptic
    assert got is not None
    assert got.pq == pytest.approx(2 / 3)
    assert evaluate(predictor(4), examples, classes=4, objects=True).panoptic is None


def test_confidence_is_held_against_accuracy(predictor: Callable[[int], Predictor]) -> None:
    """Always right but not quite sure: confidence below accuracy, temperature below 1."""
    one = squares((2, 2))
    got = evaluate(predictor(2), [read(one, one)], classes=2).calibration
    assert got is not None
    assert got.before.ece == pytest.approx(1 - 1 / (1 + math.exp(-4)))
    assert got.temperature < 1


@pytest.mark.parametrize(("surfaces", "thorough"), [(False, True), (True, False)])
def test_while_training_only_what_is_cheap_is_measured(
    surfaces: bool,  # noqa: FBT001 - a parameter of a test
    thorough: bool,  # noqa: FBT001 - a parameter of a test
    predictor: Callable[[int], Predictor],
) -> None:
    """There is Dice, and surface Dice if asked for, but no distance, objects or calibration."""
    one = squares((2, 2))
    got = evaluate(
        predictor(2),
        [read(one, one)],
        classes=2,
        surfaces=surfaces,
        thorough=thorough,
        objects=True,
    )
    assert got.scores.dice == 1
    assert math.isnan(got.scores.nsd2) != surfaces
    assert math.isnan(got.hd95)
    assert (got.panoptic, got.calibration) == (None, None)


def test_images_without_labels_are_skipped(predictor: Callable[[int], Predictor]) -> None:
    """What has no reference cannot be scored."""
    one = squares((2, 2))
    got = evaluate(predictor(2), [read(one, None), read(one, one)], classes=2)
    assert len(got.masks) == len(got.per_image) == 1
