"""What is taken for a worker that stands still, and what is not."""

from __future__ import annotations

import pytest

from histill.distill import vitals
from histill.distill.vitals import Vitals


class Clock:
    """A clock that only the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The one that vitals are told by."""
    made = Clock()
    monkeypatch.setattr(vitals, "time", made)
    return made


def stalled(parts: Vitals, *, redis_answers: bool = True, draining: bool = False) -> str:
    return parts.stalled(redis_answers=redis_answers, draining=draining)


def test_a_loop_that_turns_is_alive_and_one_that_stops_is_not(clock: Clock) -> None:
    """Its silence counts from its last turn; it recovers with the next."""
    parts = Vitals(loop_s=5)
    parts.turned()
    assert stalled(parts) == ""
    clock.now += 5
    assert (parts.taking, stalled(parts)) == (True, "")
    clock.now += 1
    assert (parts.taking, stalled(parts)) == (False, "the loop that takes messages")
    parts.turned()
    assert (parts.taking, stalled(parts)) == (True, "")


def test_a_redis_that_is_away_for_hours_stalls_nothing(clock: Clock) -> None:
    """But one that answers others, and to which Celery does not come back, does."""
    parts = Vitals(connect_s=60)
    parts.turned()
    parts.disconnected()
    for _ in range(100):
        clock.now += 60
        assert stalled(parts, redis_answers=False) == ""
    assert not parts.taking
    for _ in range(2):
        assert stalled(parts) == ""
        clock.now += 50
    assert stalled(parts) == "the connection to a Redis that answers"
    assert stalled(parts, redis_answers=False) == ""
    parts.turned()
    assert stalled(parts) == ""


def test_a_loop_that_waits_for_redis_is_not_stalled(clock: Clock) -> None:
    """Its silence counts from the moment when Redis answers others."""
    parts = Vitals(loop_s=5)
    parts.turned()
    clock.now += 1000
    assert stalled(parts, redis_answers=False) == ""
    assert stalled(parts) == ""
    clock.now += 6
    assert stalled(parts) == "the loop that takes messages"


def test_a_worker_that_drains_may_be_silent(clock: Clock) -> None:
    """Its loop waits until its attempts have ended."""
    parts = Vitals(loop_s=5)
    parts.turned()
    clock.now += 100
    assert stalled(parts, draining=True) == ""


def test_an_attempt_that_nobody_watches_is_told_also_while_it_drains(clock: Clock) -> None:
    """However long it trains, somebody looks all the time; when it ends, nobody need."""
    parts = Vitals(loop_s=1e9, watch_s=100)
    parts.turned()
    with parts.watching("abc") as looked:
        for _ in range(1000):
            clock.now += 100
            looked()
            assert stalled(parts) == ""
        clock.now += 101
        assert stalled(parts) == "the watch of jobs/abc"
        assert stalled(parts, draining=True) == "the watch of jobs/abc"
    assert stalled(parts) == ""
