"""Attacks on numbers whose truth is known, and their measures against plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from histill.ml.membership import (
    auc_interval,
    loss_attack,
    measured,
    midranks,
    reference_attack,
    tpr_at,
)


def scores(seed: int, *, members: int = 60, others: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping groups, rounded so that many scores are equal."""
    random = np.random.default_rng(seed)
    return random.normal(0.7, 1, members).round(1), random.normal(0, 1, others).round(1)


def test_midranks_share_ties() -> None:
    """Two equal values share the mean of their ranks."""
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_is_delongs(seed: int) -> None:
    """Area and interval by ranks are those of all pairs, ties counted half."""
    members, others = scores(seed)
    pairs = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    variance = pairs.mean(1).var(ddof=1) / len(members) + pairs.mean(0).var(ddof=1) / len(others)
    auc, low, high = auc_interval(members, others)
    assert auc == pytest.approx(pairs.mean())
    assert (high - low) / 2 == pytest.approx(1.959964 * math.sqrt(variance))
    assert (high + low) / 2 == pytest.approx(auc)


def test_the_interval_is_as_wide_as_the_bootstraps() -> None:
    """Drawing members and non-members anew spreads the area as DeLong says."""
    members, others = scores(3)
    random = np.random.default_rng(0)
    drawn = [
        auc_interval(random.choice(members, len(members)), random.choice(others, len(others)))[0]
        for _ in range(2000)
    ]
    _, low, high = auc_interval(members, others)
    assert [low, high] == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.015)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Of two equal groups, about 95 in 100 intervals hold 0.5."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(1000):
        _, low, high = auc_interval(random.normal(size=30), random.normal(size=40))
        held += low <= 0.5 <= high
    assert 0.925 <= held / 1000 <= 0.97


def test_few_that_are_wholly_apart_prove_little() -> None:
    """Three against three is no proof; thirty against thirty is one."""
    assert auc_interval(np.array([4.0, 5, 6]), np.array([1.0, 2, 3])) == pytest.approx(
        (1.0, 0.025 ** (1 / 3), 1.0)
    )
    auc, low, high = auc_interval(np.arange(30.0), 30 + np.arange(30.0))
    assert (auc, low) == (0.0, 0.0)
    assert high == pytest.approx(0.116, abs=1e-3)


def test_one_member_gives_no_interval() -> None:
    """A variance needs two."""
    auc, low, high = auc_interval(np.array([1.0]), np.array([0.0, 2.0]))
    assert auc == 0.5
    assert math.isnan(low)
    assert math.isnan(high)


def test_a_share_that_so_few_cannot_resolve_is_not_a_number() -> None:
    """99 non-members know nothing of 1 %, 100 do; of 0.1 % 1000 do."""
    members = np.full(4, 1000.0)
    assert math.isnan(tpr_at(members, np.arange(99.0), fpr=0.01))
    assert tpr_at(members, np.arange(100.0), fpr=0.01) == 1.0
    assert math.isnan(tpr_at(members, np.arange(999.0), fpr=0.001))
    assert tpr_at(members, np.arange(1000.0), fpr=0.001) == 1.0


@pytest.mark.parametrize("seed", [0, 1])
def test_members_found_are_those_of_the_best_threshold(seed: int) -> None:
    """No threshold with that few false alarms finds more, and one finds as many."""
    members, others = scores(seed, others=250)
    possible = [
        np.mean(members >= limit)
        for limit in np.unique([*members, *others])
        if np.mean(others >= limit) <= 0.02
    ]
    assert tpr_at(members, others, fpr=0.02) == pytest.approx(max(possible))


def test_equal_scores_are_taken_together() -> None:
    """A threshold cannot pass one of two equal non-members."""
    others = np.array([*np.arange(98.0), 200.0, 200.0])
    assert tpr_at(np.array([150.0, 200.0, 250.0]), others, fpr=0.01) == pytest.approx(1 / 3)


def test_low_losses_are_members() -> None:
    """A model that knows its members by heart is found out, one that does not is not."""
    random = np.random.default_rng(5)
    found = loss_attack(random.normal(0.1, 0.05, 200), random.normal(0.5, 0.05, 200))
    assert (found.name, found.members, found.non_members) == ("loss", 200, 200)
    assert found.auc > 0.99
    assert found.tpr_at_1_percent > 0.9
    blind = loss_attack(np.full(10, 0.3), np.full(10, 0.3))
    assert blind.auc == 0.5


@pytest.mark.parametrize("references", [3, 80])
def test_references_tell_hard_members_from_easy_strangers(references: int) -> None:
    """Examples differ more than membership does: the loss is blind, references are not."""
    random = np.random.default_rng(6)
    ease = random.normal(0, 5, 400)
    ours = ease + random.normal(0, 0.3, 400) + np.repeat([1.0, 0.0], 200)
    theirs = ease + random.normal(0, 0.3, (references, 400))
    found = reference_attack(
        ours[:200],
        ours[200:],
        member_references=theirs[:, :200],
        non_member_references=theirs[:, 200:],
    )
    assert found.auc > 0.9
    assert loss_attack(-ours[:200], -ours[200:]).auc < 0.7


def test_many_references_give_each_example_its_own_spread() -> None:
    """With 64 a stranger on which models disagree is not taken for a member; with 63 it is."""
    random = np.random.default_rng(7)
    wild, calm = random.normal(0, 10, (64, 1)), random.normal(0, 0.1, (64, 1))
    for references, auc in ((64, 1.0), (63, 0.0)):
        found = reference_attack(
            np.array([1.0]),
            np.array([9.0]),
            member_references=calm[:references],
            non_member_references=wild[:references],
        )
        assert found.auc == auc


def test_what_is_no_score_is_refused() -> None:
    """Empty, of two dimensions, not finite, of another length, or a single reference."""
    good = np.array([1.0, 2.0])
    for bad in (np.array([]), np.ones((2, 2)), np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="finite"):
            measured("loss", good, bad)
    one, three = np.ones((1, 2)), np.ones((2, 3))
    with pytest.raises(ValueError, match="at least 2"):
        reference_attack(good, good, member_references=one, non_member_references=one)
    with pytest.raises(ValueError, match=r"references \[R, 6\]"):
        reference_attack(good, good, member_references=three, non_member_references=three)
