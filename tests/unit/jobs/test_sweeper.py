"""What is removed from the store because nothing names it, and what is left alone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

import manifests
from fakes import MemoryEvents, MemoryIndex, MemoryObjects, MemoryVersions
from histill.core import catalog
from histill.core.catalog import MODELS
from histill.core.errors import StorageUnavailableError
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.names import Reference, new_job_id
from histill.core.projects import scoped
from histill.core.specs import SupervisedSpec
from histill.jobs.settings import SweeperPart
from histill.jobs.sweeper import Sweeper

NOW = datetime(2026, 5, 4, tzinfo=UTC)


@dataclass
class World:
    """A sweeper that looks at every call."""

    objects: MemoryObjects = field(default_factory=MemoryObjects)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.objects, MemoryIndex(built=True), MemoryEvents(), lambda: NOW)
        self.sweeper = Sweeper(self.objects, self.jobs, SweeperPart(after_s=0))

    def keys(self, prefix: str = "") -> list[str]:
        return list(self.objects.list(prefix))

    def job(self, **fields: object) -> Job:
        spec = SupervisedSpec(dataset="d", output_model="m")
        made = Job(id=new_job_id(), spec=spec, create_time=NOW)
        return self.jobs.create(made.model_copy(update=fields))

    def model(self, job: Job, *, project: str = "default") -> str:
        manifest = manifests.model(name="m", job=job.name)
        store = scoped(self.objects, project)
        return catalog.publish(store, MemoryVersions(), MODELS, manifest, []).reference


@pytest.fixture
def world() -> World:
    """An empty world."""
    return World()


def test_what_is_named_stays(world: World) -> None:
    """A job, its result, the result of a job that was deleted, and what was uploaded."""
    job = world.job(state=JobState.SUCCEEDED, result_model="models/m/versions/1")
    world.model(job)
    world.model(job.model_copy(update={"id": new_job_id()}))
    catalog.publish(world.objects, MemoryVersions(), MODELS, manifests.model(name="up"), [])
    before = world.keys()
    for _ in range(3):
        world.sweeper.look()
    assert world.keys() == before


def test_files_without_a_manifest_go(world: World) -> None:
    """Of models and datasets, in every project."""
    for prefix in ("models/m/1/", "datasets/d/7/", "projects/p/models/m/2/"):
        world.objects.put(f"{prefix}weights.safetensors", b"half")
    world.sweeper.look()
    assert world.keys() == []


def test_what_is_stored_of_a_job_that_is_gone_goes(world: World) -> None:
    """A worker that slept stored a checkpoint after its job was deleted."""
    kept = world.job()
    world.objects.put(f"jobs/{new_job_id()}/checkpoints/1.safetensors", b"c")
    world.sweeper.look()
    assert world.keys("jobs/") == [f"jobs/{kept.id}/job.json"]


@pytest.mark.parametrize("project", ["default", "other"])
def test_a_second_result_of_one_job_goes(world: World, project: str) -> None:
    """Only when the job has ended: until then it may be about to become the result."""
    job = world.job(state=JobState.RUNNING, attempt=1, project=project)
    world.model(job, project=project)
    world.sweeper.look()
    assert len(world.keys()) == 2
    done = {"state": JobState.SUCCEEDED, "result_model": "models/m/versions/2"}
    world.jobs.update(job.id, lambda now: now.model_copy(update=done))
    world.model(job, project=project)
    world.sweeper.look()
    manifests_left = [key for key in world.keys("") if key.endswith("manifest.json")]
    assert [key.split("/")[-2] for key in manifests_left] == ["2"]


def test_nothing_goes_that_was_not_an_orphan_for_long(world: World) -> None:
    """It may be about to be finished: the time begins with the first look."""
    world.sweeper.settings = SweeperPart(after_s=60)
    world.objects.put("models/m/1/weights.safetensors", b"half")
    world.sweeper.look()
    assert len(world.keys()) == 1
    world.sweeper.since = {orphan: first - 61 for orphan, first in world.sweeper.since.items()}
    world.sweeper.look()
    assert world.keys() == []


def test_the_result_of_a_jobs_former_life_stays(world: World) -> None:
    """An alias points at it: somebody serves it, whatever the job of that name says now."""
    job = world.job(state=JobState.SUCCEEDED, result_model="models/m/versions/9")
    world.model(job)
    catalog.set_alias(world.objects, Reference("m"), "production")
    world.sweeper.look()
    assert catalog.find(world.objects, MODELS, "m@production").version == 1


async def test_only_the_leader_sweeps() -> None:
    """A look that fails is no end of it."""
    world, looks = World(), []
    world.sweeper.settings = SweeperPart(every_s=0.01, after_s=0)

    def look() -> None:
        looks.append(1)
        raise StorageUnavailableError("away")

    world.sweeper.look = look  # type: ignore[method-assign]
    leads = [False] * 3 + [True] * 2
    task = asyncio.create_task(world.sweeper.run(lambda: bool(leads) and leads.pop(0)))
    await asyncio.sleep(0.5)
    task.cancel()
    assert len(looks) == 2
