"""What is left when a store or Redis fails in the middle, and values that JSON does not have."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryObjects, MemoryVersions
from histill.core import catalog
from histill.core.catalog import MODELS
from histill.core.errors import (
    CorruptArtifactError,
    QueueUnavailableError,
    StorageUnavailableError,
    UnavailableError,
)
from histill.core.events import JobEvent
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.manifests import ModelManifest, ModelRole, Normalization
from histill.core.names import new_job_id
from histill.core.specs import NetworkSpec, SupervisedSpec

NOW = datetime(2026, 5, 4, tzinfo=UTC)


class Objects(MemoryObjects):
    """Objects that cannot be written while ``down``."""

    down = False

    def put(self, key: str, data: bytes) -> None:
        if self.down:
            raise StorageUnavailableError("down")
        super().put(key, data)


class Index(MemoryIndex):
    """An index that cannot be written while ``down``."""

    down = False

    def save(self, job: Job) -> bool:
        if self.down:
            raise QueueUnavailableError("down")
        return super().save(job)


def job(request_id: str = "", **fields: object) -> Job:
    spec = SupervisedSpec(dataset="d", output_model="m")
    made = Job(id=new_job_id(), spec=spec, create_time=NOW, request_id=request_id)
    return made.model_copy(update=fields)


@pytest.fixture
def store() -> JobStore:
    """An empty store whose parts can be put down."""
    return JobStore(Objects(), Index(built=True), MemoryEvents(), lambda: NOW)


@pytest.mark.parametrize("part", ["objects", "index"])
@pytest.mark.parametrize("request_id", ["", "key"])
def test_a_refused_creation_leaves_nothing_and_can_be_repeated(
    store: JobStore, part: str, request_id: str
) -> None:
    """The caller heard of a failure: no half of the job runs later, and the key stays usable."""
    getattr(store, part).down = True
    with pytest.raises(UnavailableError):
        store.create(job(request_id))
    assert list(store.objects.list("jobs/")) == []
    assert store.index.queued() == set()
    getattr(store, part).down = False
    made = store.create(job(request_id))
    assert store.index.queued() == {made.id}
    assert store.create(job("other")).id != made.id


def test_a_key_is_free_again_once_its_job_is_deleted(store: JobStore) -> None:
    """A new request under an old key makes a job, not an error about one that is gone."""
    first = store.create(job("key"))
    store.update(first.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))
    store.delete(first.id)
    assert store.create(job("key")).state is JobState.QUEUED


def test_a_repeated_creation_heals_the_index(store: JobStore) -> None:
    """A job that S3 has and the index misses is seen again, so that the reaper finds it."""
    first = store.create(job("key"))
    assert isinstance(store.index, MemoryIndex)
    store.index.records.clear()
    assert store.create(job("key")) == first
    assert store.index.queued() == {first.id}


def test_one_damaged_record_does_not_keep_the_others_away(store: JobStore) -> None:
    """Rebuilding goes on past what it cannot read."""
    first = store.create(job())
    ended = store.create(job())
    store.objects.put("jobs/0000damaged/job.json", b"{")
    store.update(ended.id, lambda j: j.moved_to(JobState.CANCELLED, at=NOW))
    store.objects.put(f"jobs/{ended.id}/events/0.jsonl", b"not an event")
    fresh = JobStore(store.objects, MemoryIndex(), MemoryEvents(), lambda: NOW)
    assert fresh.rebuild() == 2
    assert fresh.get(first.id) == first
    assert [event.state for event in fresh.events.read(ended.id)] == [JobState.CANCELLED]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_stored_and_read(value: float) -> None:
    """Training diverges; its record and its events stay readable."""
    record = Job.model_validate_json(job(metrics={"loss": value}).model_dump_json())
    event = JobEvent.model_validate_json(
        JobEvent(time=NOW, metrics={"loss": value}).model_dump_json()
    )
    for metrics in (record.metrics, event.metrics):
        assert metrics["loss"] == value or (math.isnan(value) and math.isnan(metrics["loss"]))


def test_one_damaged_manifest_does_not_hide_the_others() -> None:
    """The list goes on; asking for the damaged one says that it is damaged."""
    objects = MemoryObjects()
    good = ModelManifest(
        name="good",
        version=0,
        role=ModelRole.STUDENT,
        network=NetworkSpec(),
        channels=1,
        classes=("background", "object"),
        normalization=Normalization(mean=(0.0,), std=(1.0,)),
        metrics={"dice": math.nan},
        create_time=NOW,
        files=(),
    )
    catalog.publish(objects, MemoryVersions(), MODELS, good, [])
    objects.put("models/bad/1/manifest.json", b"{}")
    assert [m.name for m in catalog.iterate(objects, MODELS)] == ["good"]
    with pytest.raises(CorruptArtifactError):
        catalog.find(objects, MODELS, "bad")
