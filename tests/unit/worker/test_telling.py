"""What watchers hear while Redis is away."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from histill.core.errors import QueueUnavailableError
from histill.core.jobs import Job
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec
from histill.distill import telling as module
from histill.distill.telling import Telling

if TYPE_CHECKING:
    import pytest

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def test_one_failure_is_not_waited_for_again_with_each_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each try may take seconds; the last lines are kept for the job's error all the same."""
    tries = []

    def away(_: str, event: object) -> None:
        tries.append(event)
        raise QueueUnavailableError("away")

    events = SimpleNamespace(append=away)
    worker = SimpleNamespace(clock=lambda: NOW, jobs=SimpleNamespace(events=events))
    spec = SupervisedSpec(dataset="d", output_model="m")
    job = Job(id=new_job_id(), spec=spec, create_time=NOW)
    telling = Telling(cast("Any", worker), job)
    for number in range(40):
        telling.line(str(number))
    assert len(tries) == 1
    assert list(telling.log_tail) == [str(number) for number in range(10, 40)]
    monkeypatch.setattr(module, "_SILENT_S", 0.0)
    telling._silent_until = 0.0
    telling.line("again")
    telling.line("again")
    assert len(tries) == 3
