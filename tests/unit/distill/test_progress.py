"""Progress events."""

from __future__ import annotations

import io

from histill.distill.progress import Reporter
from histill.distill.workdir import RunEvent


class FakeClock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """The set time."""
        return self.now


def events(stream: io.StringIO) -> list[RunEvent]:
    """What was written, parsed."""
    return [RunEvent.model_validate_json(line) for line in stream.getvalue().splitlines()]


def test_at_most_two_events_a_second_unless_forced() -> None:
    """Events closer than half a second are dropped; forced ones never."""
    stream, clock = io.StringIO(), FakeClock()
    reporter = Reporter(stream, clock=clock)
    for step in range(100):
        clock.now = step * 0.1
        reporter.report("training", step, 100)
    reporter.report("validating", 100, 100, force=True)
    assert len(events(stream)) == 21
    assert events(stream)[-1].progress.stage == "validating"


def test_values_that_are_not_finite_are_left_out() -> None:
    """NaN has no word in JSON, so it is not told."""
    stream = io.StringIO()
    Reporter(stream).report("training", metrics={"loss": 1.5, "val_dice": float("nan")})
    assert events(stream)[0].metrics == {"loss": 1.5}


def test_other_processes_say_nothing() -> None:
    """Without a stream nothing is due and nothing is written."""
    reporter = Reporter(None)
    reporter.report("training", force=True)
    assert not reporter.due
