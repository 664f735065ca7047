"""A job's legal moves."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from histill.core.errors import IllegalMoveError
from histill.core.jobs import LEGAL_MOVES, Job, JobKind, JobState, Progress
from histill.core.specs import MultiTeacherSpec, SupervisedSpec

NOW = datetime(2026, 5, 4, tzinfo=UTC)
SPEC = SupervisedSpec(dataset="d", output_model="m")


def job(state: JobState = JobState.QUEUED, **fields: object) -> Job:
    return Job.model_validate(
        {"id": "a" * 20, "spec": SPEC, "create_time": NOW, "state": state, **fields}
    )


@pytest.mark.parametrize(("old", "new"), list(itertools.product(JobState, JobState)))
def test_only_legal_moves_are_made(old: JobState, new: JobState) -> None:
    """Every pair of states either moves or raises, as the table says."""
    if new in LEGAL_MOVES[old]:
        assert job(old).moved_to(new, at=NOW).state is new
    else:
        with pytest.raises(IllegalMoveError, match=f"is {old} and cannot become {new}"):
            job(old).moved_to(new, at=NOW)


def test_starting_counts_attempts_and_forgets_old_progress() -> None:
    """A start sets the time, counts the attempt and begins progress anew."""
    old = job(attempt=1, progress=Progress(stage="training", step=9))
    new = old.moved_to(JobState.RUNNING, at=NOW)
    assert (new.start_time, new.attempt, new.progress) == (NOW, 2, None)


def test_ending_sets_the_time_and_drops_the_cancel_request() -> None:
    """A final state has an end and no open request."""
    new = job(JobState.RUNNING, cancel_requested=True).moved_to(JobState.CANCELLED, at=NOW)
    assert (new.end_time, new.cancel_requested) == (NOW, False)


def test_the_kind_follows_from_the_spec() -> None:
    """Each spec is one kind."""
    several = MultiTeacherSpec(dataset="d", output_model="m", teachers=("t",))
    assert job().kind is JobKind.SUPERVISED
    assert job(spec=several).kind is JobKind.MULTI_TEACHER


def test_a_record_survives_its_json() -> None:
    """What is stored is what is read."""
    several = MultiTeacherSpec(dataset="d@2", output_model="m", teachers=("t@production", "u"))
    stored = job(spec=several, metrics={"dice": 0.5})
    assert Job.model_validate_json(stored.model_dump_json()) == stored
