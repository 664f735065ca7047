"""What watchers hear while Redis is away."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY

from histill.core.errors import QueueUnavailableError
from histill.core.jobs import Job, Progress
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec
from histill.distill import telling as module
from histill.distill.telling import Telling
from histill.distill.workdir import RunEvent

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def telling_of(events: object) -> Telling:
    """Of a job without teachers."""
    live = SimpleNamespace(set_progress=lambda *_: None)
    worker = SimpleNamespace(clock=lambda: NOW, jobs=SimpleNamespace(events=events), live=live)
    spec = SupervisedSpec(dataset="d", output_model="m")
    return Telling(cast("Any", worker), Job(id=new_job_id(), spec=spec, create_time=NOW))


def steps() -> float:
    return REGISTRY.get_sample_value("histill_job_steps_total", {"kind": "SUPERVISED"}) or 0


@pytest.mark.parametrize(
    ("told", "done"),
    [
        # The steps between two events were made, too; a resumed attempt made none of the first.
        ([("training", 1, True), ("training", 40, True), ("validating", 100, False)], 40),
        ([("training", 500, False), ("training", 510, True)], 10),
        # A start that was dead, or a state that was put back: what is done again counts again.
        ([("training", 50, True), ("training", 2, True), ("training", 60, True)], 50 + 58),
        # Images that teachers were asked about are no steps.
        ([("teachers", 30, False), ("training", 7, True)], 7),
    ],
)
def test_steps_are_counted_though_few_are_told(
    told: list[tuple[str, int, bool]], done: int
) -> None:
    """The trainer tells of two a second at most."""
    telling = telling_of(SimpleNamespace(append=lambda *_: 1))
    before = steps()
    for stage, step, made in told:
        metrics = {"step_seconds": 0.01} if made else {}
        progress = Progress(stage=stage, step=step, steps=1000)
        telling.event(RunEvent(progress=progress, metrics=metrics))
    assert steps() - before == done


def test_one_failure_is_not_waited_for_again_with_each_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each try may take seconds; the last lines are kept for the job's error all the same."""
    tries = []

    def away(_: str, event: object) -> None:
        tries.append(event)
        raise QueueUnavailableError("away")

    telling = telling_of(SimpleNamespace(append=away))
    for number in range(40):
        telling.line(str(number))
    assert len(tries) == 1
    assert list(telling.log_tail) == [str(number) for number in range(10, 40)]
    monkeypatch.setattr(module, "_SILENT_S", 0.0)
    telling._silent_until = 0.0
    telling.line("again")
    telling.line("again")
    assert len(tries) == 3
