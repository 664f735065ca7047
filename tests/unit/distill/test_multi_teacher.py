"""Teacher weights and mixtures against plain formulas and at their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import special
from scipy.ndimage import uniform_filter

from histill.core.specs import TeacherWeighting
from histill.distill.multi_teacher import (
    judge,
    labeled_scores,
    mix,
    normalized_weights,
    soft_dice,
    softmax,
    unlabeled_scores,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.distill.multi_teacher import Verdict

_GRAINS = ["uniform", "image", "pixel"]


@pytest.fixture
def target() -> npt.NDArray[np.uint8]:
    """A square of class 1 on background."""
    target = np.zeros((12, 12), dtype=np.uint8)
    target[4:8, 4:8] = 1
    return target


def logits_of(target: npt.NDArray[np.uint8], *, margin: float) -> npt.NDArray[np.float32]:
    """Logits that favour the class map by a margin, or oppose it when negative."""
    truth = target == np.arange(2)[:, None, None]
    return np.where(truth, np.float32(margin), np.float32(0))


def judged(
    logits: list[npt.NDArray[np.float32]], target: npt.NDArray[np.uint8] | None, **weighting: Any
) -> Verdict:
    """The verdict on some teachers with equal priors at temperature 2."""
    return judge(
        np.stack(logits),
        target,
        weighting=TeacherWeighting.model_validate(weighting),
        temperature=2.0,
        priors=np.full(len(logits), 0.9, dtype=np.float32),
    )


def test_softmax_agrees_with_scipy_and_bears_minus_infinity() -> None:
    """The softmax is the usual one; an excluded entry gets 0."""
    values = np.array([[1.0, 2.0, -np.inf]], dtype=np.float32)
    np.testing.assert_allclose(softmax(values, axis=1), special.softmax(values, axis=1), rtol=1e-6)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("grain", _GRAINS)
def test_one_teacher_has_all_the_weight(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """A single teacher is plain distillation: weight 1, its own softened output."""
    logits = logits_of(target, margin=3)
    verdict = judged([logits], target if labeled else None, grain=grain)
    np.testing.assert_allclose(verdict.weights, 1)
    np.testing.assert_allclose(verdict.mixture, special.softmax(logits / 2, axis=0), rtol=1e-5)
    np.testing.assert_allclose(verdict.consensus, special.softmax(logits, axis=0), rtol=1e-5)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("grain", _GRAINS)
def test_equal_teachers_have_equal_weights(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """Three times the same teacher weighs a third each, everywhere."""
    verdict = judged([logits_of(target, margin=3)] * 3, target if labeled else None, grain=grain)
    np.testing.assert_allclose(verdict.weights, 1 / 3, rtol=1e-4)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("grain", _GRAINS)
def test_a_teacher_that_yields_nan_is_excluded(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """NaN in one teacher's output leaves the verdict of the others as if it were not there."""
    good, other = logits_of(target, margin=3), logits_of(target, margin=1)
    broken = good.copy()
    broken[0, 0, 0] = np.nan
    truth = target if labeled else None
    verdict, without = (
        judged([good, broken, other], truth, grain=grain),
        judged([good, other], truth, grain=grain),
    )
    assert verdict.usable.tolist() == [True, False, True]
    assert not verdict.weights[1].any()
    np.testing.assert_allclose(verdict.mixture, without.mixture, rtol=1e-5)


@pytest.mark.parametrize("grain", _GRAINS)
def test_without_any_usable_teacher_all_weights_are_zero(
    grain: str, target: npt.NDArray[np.uint8]
) -> None:
    """When every teacher overflows, nothing is said, and nothing is NaN."""
    broken = np.full((2, 12, 12), np.inf, dtype=np.float32)
    verdict = judged([broken, broken], target, grain=grain)
    assert not verdict.usable.any()
    assert not verdict.weights.any()
    assert not verdict.mixture.any()


@pytest.mark.parametrize("grain", ["image", "pixel"])
def test_labels_favour_the_teacher_that_is_right(grain: str, target: npt.NDArray[np.uint8]) -> None:
    """The better teacher gets nearly all weight; the opposite one is dropped to zero."""
    good, bad = logits_of(target, margin=4), logits_of(target, margin=-4)
    weights = judged([good, bad], target, grain=grain).weights
    np.testing.assert_allclose(weights[0], 1)
    np.testing.assert_array_equal(weights[1], 0)


@pytest.mark.parametrize("grain", ["image", "pixel"])
def test_without_labels_the_odd_one_out_weighs_least(
    grain: str, target: npt.NDArray[np.uint8]
) -> None:
    """A teacher that is sure but alone loses against two that agree."""
    alone = logits_of(target, margin=-8)
    weights = judged([logits_of(target, margin=3)] * 2 + [alone], None, grain=grain).weights
    assert (weights[2] < weights[0]).all()
    assert float(weights[2].mean()) < 0.1


@pytest.mark.parametrize("grain", ["image", "pixel"])
def test_without_labels_the_recorded_dice_decides_between_two(
    grain: str, target: npt.NDArray[np.uint8]
) -> None:
    """Two teachers that differ only in their record are told apart by it."""
    verdict = judge(
        np.stack([logits_of(target, margin=3)] * 2),
        None,
        weighting=TeacherWeighting.model_validate({"grain": grain, "temperature": 0.1}),
        temperature=1.0,
        priors=np.array([0.9, 0.5], dtype=np.float32),
    )
    expected = special.softmax(np.array([0.9, 0.5]) * 0.3 / 0.1)
    np.testing.assert_allclose(verdict.weights.mean(axis=(1, 2)), expected, rtol=1e-4)


def test_image_score_is_the_soft_dice_on_labels(target: npt.NDArray[np.uint8]) -> None:
    """At image grain the score is 2 sum(p y) / (sum(p^2) + sum(y^2)) of the foreground."""
    p = special.softmax(logits_of(target, margin=1), axis=0)
    expected = 2 * (p[1] * target).sum() / ((p[1] ** 2).sum() + target.sum())
    assert labeled_scores(p[None], target, grain="image").item() == pytest.approx(
        expected, rel=1e-4
    )


def test_pixel_score_is_the_smoothed_log_likelihood(target: npt.NDArray[np.uint8]) -> None:
    """At pixel grain the score is minus the cross-entropy, averaged over 5 x 5."""
    rng = np.random.default_rng(0)
    p = special.softmax(rng.normal(size=(1, 2, 12, 12)), axis=1).astype(np.float32)
    of_truth = np.where(target == 1, p[0, 1], p[0, 0])
    expected = uniform_filter(np.log(of_truth), size=5, mode="reflect")
    np.testing.assert_allclose(labeled_scores(p, target, grain="pixel")[0], expected, rtol=1e-4)


def test_unlabelled_score_is_half_agreement_and_some_confidence_and_record(
    target: npt.NDArray[np.uint8],
) -> None:
    """The estimate is 0.5 agreement + 0.2 confidence + 0.3 recorded Dice."""
    p = np.stack([softmax(logits_of(target, margin=m), axis=0) for m in (1, 2)])
    priors = np.array([0.8, 0.6], dtype=np.float32)
    got = unlabeled_scores(p, np.array([True, True]), priors, grain="image").ravel()
    agreement = soft_dice(p[0], p[1])
    confidence = (p.max(axis=1).mean(axis=(1, 2)) - 0.5) * 2
    np.testing.assert_allclose(got, 0.5 * agreement + 0.2 * confidence + 0.3 * priors, rtol=1e-5)


def test_empty_masks_agree() -> None:
    """Two maps without foreground overlap fully, by definition."""
    empty = np.stack([np.ones((3, 3)), np.zeros((3, 3))]).astype(np.float32)
    assert soft_dice(empty, empty) == 1


def test_small_weights_are_dropped_and_the_rest_rescaled() -> None:
    """A weight under the smallest becomes 0; the others sum to one again."""
    raw = np.array([0.6, 0.37, 0.03])
    scores = np.log(raw).astype(np.float32)[:, None, None]
    weighting = TeacherWeighting(temperature=1, min_weight=0.05)
    got = normalized_weights(scores, np.ones(3, dtype=bool), weighting).ravel()
    np.testing.assert_allclose(got, [0.6 / 0.97, 0.37 / 0.97, 0], rtol=1e-5)


def test_when_all_weights_are_small_none_is_dropped() -> None:
    """Three equal teachers under a floor of one half keep a third each."""
    scores = np.zeros((3, 1, 1), dtype=np.float32)
    got = normalized_weights(scores, np.ones(3, dtype=bool), TeacherWeighting(min_weight=0.5))
    np.testing.assert_allclose(got.ravel(), 1 / 3, rtol=1e-6)


def test_probabilities_are_mixed_not_logits() -> None:
    """The mixture is the arithmetic mean of probabilities and sums to one."""
    rng = np.random.default_rng(0)
    p = special.softmax(rng.normal(size=(2, 3, 4, 4)), axis=1).astype(np.float32)
    weights = np.array([0.25, 0.75], dtype=np.float32)[:, None, None]
    got = mix(p, weights)
    np.testing.assert_allclose(got, 0.25 * p[0] + 0.75 * p[1], rtol=1e-6)
    np.testing.assert_allclose(got.sum(axis=0), 1, rtol=1e-6)
