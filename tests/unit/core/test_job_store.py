"""Job records over an object store and an index that may lose everything."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

import manifests
from fakes import MemoryEvents, MemoryIndex, MemoryObjects
from histill.core.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    IllegalMoveError,
    NotFoundError,
    QueueUnavailableError,
    StorageUnavailableError,
    UnavailableError,
)
from histill.core.events import JobEvent
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.names import new_job_id
from histill.core.specs import SupervisedSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def job(request_id: str = "", output: str = "m") -> Job:
    spec = SupervisedSpec(dataset="d", output_model=output)
    return Job(id=new_job_id(), spec=spec, create_time=NOW, request_id=request_id)


@pytest.fixture
def store() -> JobStore:
    """An empty store."""
    return JobStore(MemoryObjects(), MemoryIndex(built=True), MemoryEvents(), lambda: NOW)


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
    assert len(store.page(project="default", before="", limit=10)) == 1


def test_the_same_job_in_another_pool_is_another_job(store: JobStore) -> None:
    """Its key does not stand for both."""
    store.create(job("once"))
    with pytest.raises(AlreadyExistsError, match="use a new request_id"):
        store.create(job("once").model_copy(update={"pool": "gpu"}))


def test_a_pool_that_nobody_asked_for_makes_no_other_job(store: JobStore) -> None:
    """The service that answers the repetition has another usual one."""
    first = store.create(job("once"))
    again = job("once").model_copy(update={"pool": "gpu"})
    assert store.create(again, any_pool=True) == first


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
    before = store.history(ended.id)
    fresh = JobStore(store.objects, MemoryIndex(), MemoryEvents(), lambda: NOW)
    assert fresh.rebuild() == 2
    assert fresh.index.is_built()
    listed = fresh.page(project="default", before="", limit=9)
    assert {each.id for each in listed} == {ended.id, waiting.id}
    assert fresh.history(ended.id) == before
    assert [event.state for event in fresh.events.read(waiting.id)] == [JobState.QUEUED]
    assert fresh.create(job("b")).id == waiting.id


def test_a_store_whose_index_is_lost_takes_no_job(store: JobStore) -> None:
    """It would not know an idempotency key that S3 knows, nor list what S3 holds."""
    store.create(job("key"))
    empty = JobStore(store.objects, MemoryIndex(), MemoryEvents(), lambda: NOW)
    with pytest.raises(UnavailableError, match="rebuilt"):
        empty.create(job("key"))
    with pytest.raises(UnavailableError, match="rebuilt"):
        empty.page(project="default", before="", limit=9)


def test_one_key_of_two_projects_makes_two_jobs(store: JobStore) -> None:
    """What one project calls its request says nothing about another's."""
    mine = store.create(job("key"))
    theirs = store.create(job("key").model_copy(update={"project": "other"}))
    assert mine.id != theirs.id
    fresh = JobStore(store.objects, MemoryIndex(), MemoryEvents(), lambda: NOW)
    fresh.rebuild()
    assert fresh.create(job("key")).id == mine.id


def test_a_writer_that_slept_gives_way_to_who_came_after_it(store: JobStore) -> None:
    """It was frozen before its write: the newer record comes back, in S3 too."""
    made = store.create(job())
    put, late = store.objects.put, made.moved_to(JobState.RUNNING, at=NOW, fence=1)

    def frozen_put(key: str, data: bytes) -> None:
        store.objects.put = put  # type: ignore[method-assign]
        # While it sleeps its lock runs out, and another attempt comes and ends.
        for revision, state in enumerate((JobState.RUNNING, JobState.SUCCEEDED), start=1):
            newer = made.moved_to(JobState.RUNNING, at=NOW).model_copy(
                update={"state": state, "revision": revision, "fence": 2}
            )
            put(key, newer.model_dump_json().encode())
            store.index.save(newer)
        put(key, data)

    store.objects.put = frozen_put  # type: ignore[method-assign]
    with pytest.raises(UnavailableError, match="somebody else"):
        store.update(made.id, lambda _: late)
    assert store.stored(made.id).state is store.get(made.id).state is JobState.SUCCEEDED
    assert [event.state for event in store.events.read(made.id)] == [JobState.QUEUED]


def test_a_writer_whose_lock_ran_out_writes_nothing(store: JobStore) -> None:
    """Its turn is over: somebody else may be writing."""
    made = store.create(job())

    def gone() -> None:
        raise QueueUnavailableError("ran out")

    @contextmanager
    def lock(_: str) -> Iterator[Callable[[], None]]:
        yield gone

    store.index.lock = lock  # type: ignore[method-assign,assignment]
    with pytest.raises(QueueUnavailableError):
        store.update(made.id, lambda j: j.moved_to(JobState.RUNNING, at=NOW))
    assert store.stored(made.id) == made


def test_the_history_goes_on_where_redis_begins(store: JobStore) -> None:
    """Archived events, then those that are live, each once, from any id on."""
    made = store.create(job())
    for number in range(8):
        store.events.append(made.id, JobEvent(time=NOW, log=str(number)))
    every = store.history(made.id)
    store.archive(made.id, keep=2)
    assert store.events.read(made.id) == every[-2:]
    for start in range(len(every)):
        found, after = [], every[start].id
        while events := store.history(made.id, after=after, limit=3):
            found += events
            after = events[-1].id
        assert found == every[start + 1 :]
    store.events.append(made.id, JobEvent(time=NOW, log="later"))
    store.archive(made.id, keep=0)
    store.events.expire(made.id, after_s=0)
    assert [event.log for event in store.history(made.id)][1:] == [*map(str, range(8)), "later"]


def test_a_watcher_that_saw_later_ids_than_redis_has_misses_nothing(store: JobStore) -> None:
    """Redis came back empty, with its clock behind: whatever it has is new to everybody."""
    made = store.create(job())
    assert [event.state for event in store.history(made.id, after="999-0")] == [JobState.QUEUED]


def test_closing_twice_is_closing_once(store: JobStore) -> None:
    """The reaper may come after a worker that was only slow."""
    made = store.create(job())
    store.objects.put(f"jobs/{made.id}/checkpoints/1", b"c")
    store.close(made.id)
    assert not store.get(made.id).closed
    store.update(made.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))
    store.close(made.id)
    keys = list(store.objects.list(""))
    store.close(made.id)
    assert list(store.objects.list("")) == keys
    assert store.get(made.id).closed
    assert not any("checkpoints" in key for key in keys)


def test_a_key_whose_job_is_gone_goes_to_a_job_of_another_id(store: JobStore) -> None:
    """What still names the old job (a model, a sleeping worker) must not mean the new one."""
    first = store.create(job("key"))
    store.update(first.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))
    store.delete(first.id)
    second = store.create(job("key"))
    assert second.id != first.id
    assert store.create(job("key")) == second


def test_a_first_call_that_takes_too_long_takes_nothing_from_its_repetition(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repetition made a job and was answered: the first call's end changes nothing of it."""
    monkeypatch.setattr("histill.core.job_store._STORING_S", 0.1)
    put, made = store.objects.put, []

    def slow_put(key: str, data: bytes) -> None:
        store.objects.put = put  # type: ignore[method-assign]
        made.append(store.create(job("key")))
        raise StorageUnavailableError(f"no answer in time for {len(data)} bytes of {key}")

    store.objects.put = slow_put  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        store.create(job("key"))
    assert store.get(made[0].id) == made[0]
    assert store.create(job("key")) == made[0]


def test_a_first_call_that_ends_late_answers_with_its_repetitions_job(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key, one job, however late the first call's record is stored."""
    monkeypatch.setattr("histill.core.job_store._STORING_S", 0.1)
    put, made = store.objects.put, []

    def slow_put(key: str, data: bytes) -> None:
        store.objects.put = put  # type: ignore[method-assign]
        made.append(store.create(job("key")))
        put(key, data)

    store.objects.put = slow_put  # type: ignore[method-assign]
    assert store.create(job("key")) == made[0]
    assert store.index.queued() == {made[0].id}
    assert list(store.objects.list_folders("jobs/")) == [made[0].id]


def test_a_writer_that_slept_through_a_deletion_brings_nothing_back(store: JobStore) -> None:
    """The job is gone, in S3 too, and stays gone when the index is filled again."""
    made = store.create(job())
    store.update(made.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))
    put = store.objects.put

    def frozen_put(key: str, data: bytes) -> None:
        store.objects.put = put  # type: ignore[method-assign]
        store.objects.delete_prefix(f"jobs/{made.id}/")
        store.index.delete(made.id)
        put(key, data)

    store.objects.put = frozen_put  # type: ignore[method-assign]
    with pytest.raises(NotFoundError):
        store.update(made.id, lambda j: j.model_copy(update={"display_name": "late"}))
    assert list(store.objects.list("jobs/")) == []
    put(f"jobs/{made.id}/job.json", made.model_dump_json().encode())
    assert store.rebuild() == 0
    assert list(store.objects.list("jobs/")) == []


def test_a_stale_record_in_the_store_is_put_right(store: JobStore) -> None:
    """A sleeper's write came last and it died: whoever looks next brings the newer one back."""
    made = store.create(job())
    old = store.objects.get(f"jobs/{made.id}/job.json")
    moved = store.update(made.id, lambda j: j.moved_to(JobState.RUNNING, at=NOW))
    store.objects.put(f"jobs/{made.id}/job.json", old)
    assert store.update(made.id, lambda j: j) == moved
    assert store.stored(made.id) == moved


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"state": JobState.SUCCEEDED, "result_model": "models/m/versions/1"}, True),
        ({"state": JobState.RUNNING, "publishing": "m@1"}, True),
        ({"state": JobState.RUNNING, "publishing": "m@2"}, False),
        ({"state": JobState.FAILED, "publishing": "m@1"}, False),
    ],
)
def test_a_version_is_disowned_only_when_nobody_can_take_it(
    store: JobStore, fields: dict[str, object], *, kept: bool
) -> None:
    """The result stays, and what the record still names: its next owner takes or removes that."""
    made = store.create(job())
    manifest = manifests.model(name="m", job=made.name)
    store.objects.put("models/m/1/manifest.json", manifest.model_dump_json().encode())
    store.update(made.id, lambda j: j.model_copy(update=fields))
    assert store.disown(made.id, "m@1") is (fields["state"] is JobState.SUCCEEDED)
    assert bool(list(store.objects.list("models/"))) is kept
