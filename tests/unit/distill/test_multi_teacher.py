"""Teacher weights and mixtures against plain formulas and at their limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import special

from histill.core.specs import TeacherWeighting
from histill.distill.multi_teacher import (
    Opinions,
    _mixed,
    judge,
    normalized_weights,
    softmax,
)
from histill.distill.regions import regions
from histill.distill.transfer import Evidence

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.distill.multi_teacher import Verdict

    Floats = npt.NDArray[np.float32]

GRAINS = ["uniform", "image", "class", "region", "class_region", "pixel", "ca_mkd"]
WEIGHING = [grain for grain in GRAINS if grain != "uniform"]


@pytest.fixture
def target() -> npt.NDArray[np.uint8]:
    """Two squares of class 1 and 2 on background."""
    target = np.zeros((20, 20), dtype=np.uint8)
    target[3:11, 3:11] = 1
    target[12:18, 10:18] = 2
    return target


def believes(target: npt.NDArray[np.uint8], share: float) -> Floats:
    """Probabilities [3, H, W] that give the true class a share, the others the rest."""
    truth = target == np.arange(3)[:, None, None]
    return np.where(truth, np.float32(share), np.float32((1 - share) / 2))


def opinions(
    probabilities: list[Floats], *, usable: list[bool] | None = None, **changes: Any
) -> Opinions:
    """Opinions of teachers that know everything and have equal records."""
    number = len(probabilities)
    silent = [not each for each in usable or [True] * number]
    sharp = np.stack([0 * p if s else p for p, s in zip(probabilities, silent, strict=True)])
    fields: dict[str, Any] = {
        "sharp": sharp,
        "soft": sharp,
        "usable": ~np.array(silent),
        "known": np.ones((number, 3), dtype=bool),
        "priors": np.full((number, 3), 0.9, dtype=np.float32),
        "familiarity": np.ones(number, dtype=np.float32),
    }
    return Opinions(**(fields | changes))


def judged(said: Opinions, target: npt.NDArray[np.uint8] | None, **weighting: Any) -> Verdict:
    """The verdict with some weighting."""
    evidence = weighting.pop("evidence", None)
    return judge(
        said, target, weighting=TeacherWeighting.model_validate(weighting), evidence=evidence
    )


def test_softmax_agrees_with_scipy_and_bears_minus_infinity() -> None:
    """The softmax is the usual one; an excluded entry gets 0."""
    values = np.array([[1.0, 2.0, -np.inf]], dtype=np.float32)
    np.testing.assert_allclose(softmax(values, axis=1), special.softmax(values, axis=1), rtol=1e-6)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("grain", GRAINS)
def test_one_teacher_has_all_the_weight(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """A single teacher is plain distillation: weight 1, its own output."""
    one = believes(target, 0.8)
    verdict = judged(opinions([one]), target if labeled else None, grain=grain)
    np.testing.assert_allclose(verdict.weights, [1], rtol=1e-5)
    np.testing.assert_allclose(verdict.mixture, one, rtol=1e-5)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("grain", GRAINS)
def test_equal_teachers_have_equal_weights(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """Three times the same teacher weighs a third each."""
    verdict = judged(
        opinions([believes(target, 0.8)] * 3), target if labeled else None, grain=grain
    )
    np.testing.assert_allclose(verdict.weights, [1 / 3] * 3, rtol=1e-4)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("grain", GRAINS)
def test_the_order_of_teachers_does_not_matter(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """Teachers in another order have the same weights in that order, and mix alike."""
    teachers = [believes(target, share) for share in (0.9, 0.6, 0.75)]
    truth = target if labeled else None
    there = judged(opinions(teachers), truth, grain=grain, min_weight=0.0)
    back = judged(opinions(teachers[::-1]), truth, grain=grain, min_weight=0.0)
    np.testing.assert_allclose(there.weights, back.weights[::-1], rtol=1e-4)
    np.testing.assert_allclose(there.mixture, back.mixture, rtol=1e-4)


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("grain", GRAINS)
def test_a_teacher_that_yields_nan_is_excluded(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """An unusable teacher leaves the verdict as if it were not there."""
    good, other = believes(target, 0.9), believes(target, 0.7)
    truth = target if labeled else None
    verdict = judged(opinions([good, good, other], usable=[True, False, True]), truth, grain=grain)
    without = judged(opinions([good, other]), truth, grain=grain)
    assert verdict.weights[1] == 0
    np.testing.assert_allclose(verdict.mixture, without.mixture, rtol=1e-5)


@pytest.mark.parametrize("grain", GRAINS)
def test_without_any_usable_teacher_all_weights_are_zero(
    grain: str, target: npt.NDArray[np.uint8]
) -> None:
    """When every teacher overflows, nothing is said, and nothing is NaN."""
    said = opinions([believes(target, 0.9)] * 2, usable=[False, False])
    verdict = judged(said, target, grain=grain)
    assert not verdict.weights.any()
    assert not verdict.mixture.any()


@pytest.mark.parametrize("score", ["dice", "loss"])
@pytest.mark.parametrize("grain", WEIGHING)
def test_labels_favour_the_teacher_that_is_right(
    grain: str, score: str, target: npt.NDArray[np.uint8]
) -> None:
    """The better of two teachers weighs more, whatever the grain and the score."""
    said = opinions([believes(target, 0.9), believes(target, 0.2)])
    weights = judged(said, target, grain=grain, score=score).weights
    assert weights[0] > 0.8


@pytest.mark.parametrize("grain", ["image", "class", "region", "class_region", "pixel"])
def test_without_labels_the_odd_one_out_weighs_least(
    grain: str, target: npt.NDArray[np.uint8]
) -> None:
    """A teacher that is sure but alone loses against two that agree."""
    alone = believes((target + 1).astype(np.uint8) % 3, 0.99)
    said = opinions([believes(target, 0.8), believes(target, 0.8), alone])
    weights = judged(said, None, grain=grain).weights
    assert weights[2] < weights[0]
    assert weights[2] < 0.2


def test_without_labels_the_recorded_dice_decides_between_two(
    target: npt.NDArray[np.uint8],
) -> None:
    """Two teachers that differ only in their record are told apart by it."""
    priors = np.repeat(np.array([[0.9], [0.5]], dtype=np.float32), 3, axis=1)
    said = opinions([believes(target, 0.8)] * 2, priors=priors)
    verdict = judged(said, None, grain="image", temperature=0.1)
    expected = special.softmax(np.array([0.9, 0.5]) * 0.3 / 0.1)
    np.testing.assert_allclose(verdict.weights, expected, rtol=1e-4)


def test_on_an_image_of_another_kind_a_teacher_counts_less(target: npt.NDArray[np.uint8]) -> None:
    """Familiarity scales the estimate without labels."""
    familiar = np.array([1.0, 0.1], dtype=np.float32)
    said = opinions([believes(target, 0.8)] * 2, familiarity=familiar)
    assert judged(said, None, grain="image").weights[0] > 0.99


def test_evidence_from_labelled_images_outweighs_the_estimate(
    target: npt.NDArray[np.uint8],
) -> None:
    """Fully trusted evidence is the score; untrusted, the shifted estimate is."""
    said = opinions([believes(target, 0.8)] * 2)
    table = np.array([0.2, 0.9], dtype=np.float32)[:, None, None]
    shift = np.array([0.3, 0.0], dtype=np.float32)[:, None, None]
    for trust, scores in ((1.0, [0.2, 0.9]), (0.0, [0.3, 0.0])):
        evidence = Evidence(table, shift, trust)
        verdict = judged(
            said, None, grain="image", evidence=evidence, min_weight=0.0, temperature=0.5
        )
        expected = special.softmax(np.array(scores) / 0.5)
        np.testing.assert_allclose(verdict.weights, expected, rtol=1e-3)


def test_ca_mkd_weighs_by_one_minus_the_softmax_of_losses(target: npt.NDArray[np.uint8]) -> None:
    """The peer's weights are its paper's: (1 - softmax(loss)) / (K - 1)."""
    shares = (0.9, 0.6, 0.3)
    got = judged(opinions([believes(target, s) for s in shares]), target, grain="ca_mkd").weights
    losses = -np.log(np.array(shares))
    expected = (1 - np.exp(losses) / np.exp(losses).sum()) / 2
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_a_teacher_counts_only_in_the_region_that_it_is_good_in(
    target: npt.NDArray[np.uint8],
) -> None:
    """Good inside and bad at the edge: it rules inside, the other one at the edge."""
    where = regions(target, band=2.0)
    bad = believes((target + 1).astype(np.uint8) % 3, 0.8)
    core, rim = (
        np.where(np.isin(where, good), believes(target, 0.9), bad).astype(np.float32)
        for good in ([0, 2], [1])
    )
    mixture = judged(opinions([core, rim]), target, grain="region").mixture
    truth = np.take_along_axis(mixture, target[None].astype(np.intp), axis=0)[0]
    np.testing.assert_allclose(truth, 0.9, atol=0.02)


def test_a_teacher_counts_only_for_the_class_that_it_is_good_at(
    target: npt.NDArray[np.uint8],
) -> None:
    """One is right about class 1 and takes class 2 for background, the other the reverse."""
    first = believes(np.where(target == 2, 0, target).astype(np.uint8), 0.98)
    second = believes(np.where(target == 1, 0, target).astype(np.uint8), 0.98)
    mixture = judged(opinions([first, second]), target, grain="class").mixture
    assert (mixture.argmax(axis=0) == target).mean() > 0.99
    np.testing.assert_allclose(mixture.sum(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("labeled", [True, False])
def test_teachers_that_know_one_class_each_make_a_whole(
    grain: str, *, labeled: bool, target: npt.NDArray[np.uint8]
) -> None:
    """What one takes for background because it never learnt it, the other fills in."""
    first = believes(np.where(target == 2, 0, target).astype(np.uint8), 1.0)
    second = believes(np.where(target == 1, 0, target).astype(np.uint8), 1.0)
    known = np.array([[True, True, False], [True, False, True]])
    said = opinions([first, second], known=known)
    mixture = judged(said, target if labeled else None, grain=grain).mixture
    np.testing.assert_array_equal(mixture.argmax(axis=0), target)


def test_without_labels_the_one_that_sees_what_is_not_there_weighs_least(
    target: npt.NDArray[np.uint8],
) -> None:
    """Two sure teachers agree that there is no class 2; the third paints one."""
    honest = np.where(target == 2, 0, target).astype(np.uint8)
    painted = honest.copy()
    painted[12:18, 2:9] = 2
    said = opinions([believes(honest, 0.9999)] * 2 + [believes(painted, 0.9999)])
    for grain in ("image", "class"):
        weights = judged(said, None, grain=grain).weights
        assert weights[2] < weights[0]


@pytest.mark.parametrize("score", ["dice", "loss"])
def test_regions_without_labels_are_those_of_the_trusted_teacher(
    score: str, target: npt.NDArray[np.uint8]
) -> None:
    """Also where scores are negative, regions come from the teacher with the better ones."""
    right, wrong = believes(target, 0.9), believes((target + 1).astype(np.uint8) % 3, 0.9)
    table = {"dice": [0.9, 0.1], "loss": [-0.1, -2.0]}[score]
    evidence = Evidence(
        np.tile(np.array(table, dtype=np.float32)[:, None, None], (1, 3, 1)),
        np.zeros((2, 3, 1), dtype=np.float32),
        1.0,
    )
    said = opinions([right, wrong])
    verdict = judged(said, None, grain="region", score=score, evidence=evidence)
    assert (verdict.mixture.argmax(axis=0) == target).all()


def test_a_pixel_that_every_expert_denies_falls_to_the_plain_mean() -> None:
    """Two that each rule one class and give it nothing still make probabilities."""
    first = np.zeros((3, 4, 4), dtype=np.float32)
    second = first.copy()
    first[2], second[1] = 1, 1
    said = opinions([first, second])
    weights = np.array([[[0.5, 1.0, 0.0]], [[0.5, 0.0, 1.0]]], dtype=np.float32)
    mixture = _mixed(said, weights, None).mixture
    np.testing.assert_allclose(mixture[:, 0, 0], [0, 0.5, 0.5])


@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("kind", ["empty", "all_boundary", "all_object"])
def test_masks_at_the_limits_give_finite_weights(grain: str, kind: str) -> None:
    """No foreground, nothing but boundary, nothing but object: weights still sum to one."""
    rows, columns = np.mgrid[:12, :12]
    target = {
        "empty": np.zeros((12, 12)),
        "all_boundary": (rows + columns) % 2,
        "all_object": np.ones((12, 12)),
    }[kind].astype(np.uint8)
    said = opinions([believes(target, 0.9), believes(target, 0.5)])
    for truth in (target, None):
        verdict = judged(said, truth, grain=grain)
        assert verdict.weights.sum() == pytest.approx(1, rel=1e-5)
        np.testing.assert_allclose(verdict.mixture.sum(axis=0), 1, rtol=1e-4)


def test_small_weights_are_dropped_and_the_rest_rescaled() -> None:
    """A weight under the smallest becomes 0; the others sum to one again."""
    raw = np.array([0.6, 0.37, 0.03])
    scores = np.log(raw).astype(np.float32)[:, None, None]
    weighting = TeacherWeighting(temperature=1, min_weight=0.05)
    got = normalized_weights(scores, np.ones((3, 1, 1), dtype=bool), weighting).ravel()
    np.testing.assert_allclose(got, [0.6 / 0.97, 0.37 / 0.97, 0], rtol=1e-5)


def test_when_all_weights_are_small_none_is_dropped() -> None:
    """Three equal teachers under a floor of one half keep a third each."""
    scores, allowed = np.zeros((3, 1, 1), dtype=np.float32), np.ones((3, 1, 1), dtype=bool)
    got = normalized_weights(scores, allowed, TeacherWeighting(min_weight=0.5))
    np.testing.assert_allclose(got.ravel(), 1 / 3, rtol=1e-6)


def test_probabilities_are_mixed_not_logits() -> None:
    """The mixture is the arithmetic mean of probabilities and sums to one."""
    rng = np.random.default_rng(0)
    p = special.softmax(rng.normal(size=(2, 3, 4, 4)), axis=1).astype(np.float32)
    got = judged(opinions(list(p)), None, grain="uniform").mixture
    np.testing.assert_allclose(got, p.mean(axis=0), rtol=1e-6)
