"""Job records over an object store and an index that may lose everything."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryObjects
from histill.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    IllegalMoveError,
    NotFoundError,
)
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def job(request_id: str = "", output: str = "m") -> Job:
    spec = SupervisedSpec(dataset="d", output_model=output)
    return Job(id=new_job_id(), spec=spec, create_time=NOW, request_id=request_id)


@pytest.fixture
def store() -> JobStore:
    """An empty store."""
    return JobStore(MemoryObjects(), MemoryIndex(), MemoryEvents(), lambda: NOW)


def test_a_created_job_is_kept_and_announced(store: JobStore) -> None:
    """It can be read, and its first event says that it is queued."""
    made = store.create(job())
    assert store.get(made.id) == made
    assert [event.state for event in store.events.read(made.id)] == [JobState.QUEUED]


def test_one_idempotency_key_makes_one_job(store: JobStore) -> None:
    """The same request returns the first job; another one under the key is refused."""
    first = store.create(job("key"))
    assert store.create(job("key")) == first
    with pytest.raises(AlreadyExistsError, match="use a new request_id"):
        store.create(job("key", output="other"))
    assert len(store.page(before="", limit=10)) == 1


def test_a_change_is_stored_and_a_new_state_announced(store: JobStore) -> None:
    """Only moves between states make events."""
    made = store.create(job())
    store.update(made.id, lambda j: j.model_copy(update={"display_name": "x"}))
    moved = store.update(made.id, lambda j: j.moved_to(JobState.RUNNING, at=NOW))
    assert store.get(made.id) == moved
    assert moved.display_name == "x"
    states = [event.state for event in store.events.read(made.id)]
    assert states == [JobState.QUEUED, JobState.RUNNING]


def test_a_refused_change_changes_nothing(store: JobStore) -> None:
    """An illegal move leaves record and events as they were."""
    made = store.create(job())
    with pytest.raises(IllegalMoveError):
        store.update(made.id, lambda j: j.moved_to(JobState.SUCCEEDED, at=NOW))
    assert store.get(made.id) == made
    assert len(store.events.read(made.id)) == 1


def test_only_ended_jobs_are_deleted(store: JobStore) -> None:
    """Deleting removes every object of an ended job, and of no other."""
    made = store.create(job())
    with pytest.raises(FailedPreconditionError, match="cancel it first"):
        store.delete(made.id)
    store.update(made.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))
    store.close(made.id)
    store.delete(made.id)
    assert list(store.objects.list("")) == []
    with pytest.raises(NotFoundError):
        store.get(made.id)


def test_everything_comes_back_after_redis_is_lost(store: JobStore) -> None:
    """From S3 alone the index, the keys and archived events are as before."""
    ended, waiting = store.create(job("a")), store.create(job("b"))
    store.update(ended.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))
    store.close(ended.id)
    before = store.events.read(ended.id)
    fresh = JobStore(store.objects, MemoryIndex(), MemoryEvents(), lambda: NOW)
    assert fresh.rebuild() == 2
    assert fresh.index.is_built()
    assert {j.id for j in fresh.page(before="", limit=9)} == {ended.id, waiting.id}
    assert fresh.events.read(ended.id) == before
    assert [event.state for event in fresh.events.read(waiting.id)] == [JobState.QUEUED]
    assert fresh.create(job("b")).id == waiting.id
