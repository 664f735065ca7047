"""Each failure that is noticed, and nothing that is none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from histill.distill.data_free.guard import Alarm, Check, Guard

FINE = Check(forgotten=0.0, spread=20.0, apart=0.2, shares=(1.2, 0.7))


def after(guard: Guard, check: Check) -> Alarm | None:
    return guard.after_check(check, settled=True)


def seen(losses: list[float]) -> Guard:
    guard = Guard()
    assert [guard.after_round([loss, 1.0]) for loss in losses] == [None] * len(losses)
    return guard


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_any_loss_that_is_not_finite_is_divergence(bad: float, place: int) -> None:
    """The student's or a generator's, in the very first round too."""
    losses = [0.5, 0.6, 0.7]
    losses[place] = bad
    assert Guard().after_round(losses) is Alarm.DIVERGED


def test_a_loss_that_is_a_multiple_of_what_it_was_is_divergence() -> None:
    """More than twenty times the median of the last fifty, and no less."""
    losses = [1.0, 2.0, 3.0, 4.0, 5.0] * 10
    assert seen(losses).after_round([60.1]) is Alarm.DIVERGED
    assert seen(losses).after_round([59.9]) is None
    assert seen(losses).after_round([1.0, 1e6]) is None  # a generator's may be anything


def test_the_first_losses_say_nothing_about_later_ones() -> None:
    """Until fifty are known no finite loss is too much."""
    assert seen([1e-3] * 49).after_round([1e6]) is None
    assert seen([1e-3] * 50).after_round([1e6]) is Alarm.DIVERGED


def test_only_recent_losses_count() -> None:
    """What was usual long ago is forgotten; an exploded loss never becomes usual."""
    assert seen([100.0] * 200 + [1.0] * 50).after_round([30.0]) is Alarm.DIVERGED
    guard = seen([1.0] * 50)
    assert {guard.after_round([1000.0]) for _ in range(100)} == {Alarm.DIVERGED}
    assert guard.after_round([1.0]) is None


def test_losses_of_0_are_no_divergence() -> None:
    """Nor is what is a multiple of next to nothing."""
    guard = seen([0.0] * 50)
    assert guard.after_round([1e-6]) is None
    assert guard.after_round([1.0]) is Alarm.DIVERGED


def test_a_check_without_a_failure_raises_nothing() -> None:
    """However often; NaN stands for no G1, and is none."""
    guard = Guard()
    checks = [FINE, replace(FINE, apart=math.nan), replace(FINE, spread=1.0, apart=1e-3)]
    assert {after(guard, check) for check in checks * 5} == {None}
    assert after(guard, replace(FINE, shares=(0.05, 9.0))) is None


def test_a_student_that_lost_what_it_knew_has_collapsed() -> None:
    """At once, when a quarter of the agreement is gone."""
    for forgotten, alarm in ((0.24, None), (0.26, Alarm.COLLAPSED)):
        assert after(Guard(), replace(FINE, forgotten=forgotten)) is alarm


@pytest.mark.parametrize(
    ("check", "alarm"),
    [
        (replace(FINE, spread=0.9), Alarm.COLLAPSED),
        (replace(FINE, apart=0.9e-3), Alarm.VANISHED),
        (replace(FINE, shares=(1.0, 0.049)), Alarm.DEAD_CLASS),
    ],
)
def test_a_slow_failure_is_told_when_three_checks_in_a_row_find_it(
    check: Check, alarm: Alarm
) -> None:
    """Two find nothing yet, and one good check in between starts the count again."""
    guard = Guard()
    found = [after(guard, one) for one in (check, check, FINE, check, check, check, check)]
    assert found == [None, None, None, None, None, alarm, alarm]
    assert after(guard, FINE) is None


def test_in_the_beginning_anything_may_be() -> None:
    """Until the run has settled no check raises an alarm or counts towards one."""
    guard, bad = Guard(), Check(forgotten=0.9, spread=0.0, apart=0.0, shares=(0.0,))
    assert [guard.after_check(bad, settled=False) for _ in range(5)] == [None] * 5
    assert [after(guard, replace(bad, forgotten=0.0)) for _ in range(2)] == [None, None]
    assert after(guard, FINE) is None


def test_failures_are_counted_each_for_itself() -> None:
    """Three checks with a different one each are no alarm."""
    guard = Guard()
    checks = [replace(FINE, spread=0.1), replace(FINE, apart=0.0), replace(FINE, shares=(0, 1))]
    assert [after(guard, check) for check in checks] == [None] * 3


def test_a_restored_guard_goes_on_as_the_first_one() -> None:
    """With its recent losses and its counts."""
    guard = seen([1.0] * 50)
    for _ in range(2):
        after(guard, replace(FINE, spread=0.1))
    again = Guard()
    again.restore(guard.state())
    for _ in range(40):  # a state is a copy of its moment
        guard.after_round([9.0])
    assert again.after_round([21.0]) is Alarm.DIVERGED
    assert after(again, replace(FINE, spread=0.1)) is Alarm.COLLAPSED
    assert again.losses.maxlen == 50
