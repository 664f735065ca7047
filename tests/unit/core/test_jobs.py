"""A job's legal moves."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from histill.core.errors import IllegalMoveError
from histill.core.jobs import LEGAL_MOVES, Job, JobKind, JobState, Origin, Progress
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


def test_a_record_without_a_pool_is_of_the_usual_one() -> None:
    """What says nothing is not stored; nor is the origin of one that nobody's call made."""
    stored = job().model_dump_json()
    assert "pool" not in stored
    assert "origin" not in stored
    assert Job.model_validate_json(stored).pool == "default"
    other = job(pool="gpu", origin=Origin(request_id="r"))
    assert Job.model_validate_json(other.model_dump_json()) == other


def test_what_a_later_version_records_outlives_a_change() -> None:
    """In an upgrade both versions work on a job; only of its spec nothing may be passed over."""
    record = json.loads(job().model_dump_json())
    later = json.dumps(record | {"later": {"a": 1}})
    changed = Job.model_validate_json(later).moved_to(JobState.RUNNING, at=NOW)
    assert json.loads(changed.model_dump_json())["later"] == {"a": 1}
    unknown = json.dumps(record | {"spec": {**record["spec"], "later": 1}})
    with pytest.raises(ValidationError, match="later"):
        Job.model_validate_json(unknown)


@pytest.mark.parametrize(
    ("progress", "share"),
    [
        (Progress(stage="fetching"), 0.0),
        (Progress(stage="training", step=30, steps=120), 0.25),
        (Progress(stage="training", step=130, steps=120), 1.0),
        (Progress(stage="publishing"), 1.0),
    ],
    ids=str,
)
def test_progress_has_a_share(progress: Progress, share: float) -> None:
    """Of the training: nothing before it, all after it, and never more than all."""
    assert progress.share == share
