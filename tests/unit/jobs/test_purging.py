"""What a removal concerns, and what its search takes for a trace."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fakes import MemoryEvents, MemoryHoldings, MemoryIndex, MemoryLive, MemoryObjects, MemoryTraces
from histill.core.catalog import DATASETS, MODELS
from histill.core.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobState
from histill.core.manifests import (
    DatasetManifest,
    LabelKind,
    ModelManifest,
    ModelRole,
    Normalization,
)
from histill.core.names import new_job_id
from histill.core.ports import Mention, Told
from histill.core.projects import scoped
from histill.core.specs import NetworkSpec, SupervisedSpec
from histill.jobs.purge_search import Words
from histill.jobs.purge_subject import Subject, subject_of
from histill.jobs.purging import Purging

if TYPE_CHECKING:
    from histill.jobs.purge_outcome import Outcome

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class World:
    """Memory, filled by hand."""

    objects: MemoryObjects = field(default_factory=MemoryObjects)
    index: MemoryIndex = field(default_factory=lambda: MemoryIndex(built=True))
    live: MemoryLive = field(default_factory=MemoryLive)
    traces: MemoryTraces = field(default_factory=MemoryTraces)
    holdings: MemoryHoldings = field(default_factory=MemoryHoldings)

    @property
    def jobs(self) -> JobStore:
        return JobStore(self.objects, self.index, MemoryEvents(), lambda: START)

    def dataset(self, name: str, version: int, *, day: int = 0, project: str = "default") -> None:
        manifest = DatasetManifest(
            name=name,
            version=version,
            classes=("background", "object"),
            channels=3,
            label_kind=LabelKind.SEMANTIC,
            splits={"train": 1, "val": 1},
            create_time=START + timedelta(days=day),
            files=(),
        )
        own = scoped(self.objects, project)
        own.put(f"{DATASETS.prefix(name, version)}shard-00000.tar", b"pixels")
        own.put(DATASETS.manifest_key(name, version), manifest.model_dump_json().encode())

    def model(self, name: str, **changes: Any) -> None:
        manifest = ModelManifest(
            name=name,
            version=1,
            role=ModelRole.STUDENT,
            network=NetworkSpec(),
            channels=3,
            classes=("background", "object"),
            normalization=Normalization(mean=(0.5,) * 3, std=(0.2,) * 3),
            create_time=START,
            files=(),
            **changes,
        )
        self.objects.put(MODELS.manifest_key(name, 1), manifest.model_dump_json().encode())

    def job(self, dataset: str, *, day: int = 0, project: str = "default", **changes: Any) -> Job:
        made = Job(
            id=new_job_id(),
            spec=SupervisedSpec(dataset=dataset, output_model="m"),
            create_time=START + timedelta(days=day),
            project=project,
            state=changes.pop("state", JobState.FAILED),
            end_time=START + timedelta(days=day, hours=1),
            closed=True,
            **changes,
        )
        self.objects.put(f"jobs/{made.id}/job.json", made.model_dump_json().encode())
        self.index.save(made)
        return made

    def purge(self, name: str, *, project: str = "default", **how: bool) -> Outcome:
        purging = Purging(
            self.objects, self.jobs, self.live, self.traces, self.holdings, wait_s=0.1
        )
        how = {"keep_models": False, "dry_run": False} | how
        return purging.purge(subject_of(name), project=project, **how)


def test_names_are_jobs_and_versions_of_datasets() -> None:
    """In both spellings; what is neither is told how to be written."""
    assert subject_of("slides@3") == subject_of("datasets/slides/versions/3")
    assert subject_of("jobs/0123456789") == Subject(job_id="0123456789")
    for wrong in ("slides", "slides@best", "jobs/", "jobs/..", "models/m/versions/1", "", "../x@1"):
        with pytest.raises(InvalidArgumentError, match="name: "):
            subject_of(wrong)


def test_jobs_of_a_version_are_found_by_what_they_named() -> None:
    """By the version, or, of those that took the latest, by their model or their time."""
    world = World()
    world.dataset("slides", 1, day=0)
    world.dataset("slides", 2, day=10)
    named = world.job("slides@1")
    latest_then = world.job("slides", day=5)
    made_of_1 = world.job("slides", day=9)
    world.model("a", job=made_of_1.name, dataset="slides@1")
    other = [
        world.job("slides@2", day=20),
        world.job("slides", day=20),
        world.job("slides-2@1", day=5),
        world.job("slides@1", project="acme"),
    ]
    made_of_2 = world.job("slides", day=9)
    world.model("b", job=made_of_2.name, dataset="slides@2")
    outcome = world.purge("slides@1")
    assert sorted(outcome.jobs) == sorted(j.name for j in (named, latest_then, made_of_1))
    assert outcome.models == ("a@1",)
    assert [each.place for each in outcome.left] == []
    kept = {key.split("/")[1] for key in world.objects.list("jobs/")}
    assert kept == {each.id for each in [*other, made_of_2]}
    assert list(world.objects.list("datasets/slides/1/")) == []
    assert len(list(world.objects.list("datasets/slides/2/"))) == 2
    assert list(world.objects.list("purges/")) == []


def test_descendants_are_told_and_stay() -> None:
    """Students of models that go, and their students, but not models beside them."""
    world = World()
    world.dataset("slides", 1)
    world.model("teacher", dataset="slides@1")
    world.model("child", teachers=("teacher@1", "beside@1"))
    world.model("grandchild", teachers=("child@1",))
    world.model("beside")
    # Cards tell what the teachers were trained on.
    world.objects.put("models/child/1/card.md", b"teacher@1 was trained on slides@1")
    outcome = world.purge("slides@1")
    assert outcome.left == []
    assert "models/child/1/card.md" in {each.place for each in outcome.stays}
    assert (outcome.models, outcome.descendants) == (("teacher@1",), ("child@1", "grandchild@1"))
    assert {key.split("/")[1] for key in world.objects.list("models/")} == {
        "beside", "child", "grandchild",
    }  # fmt: skip


def test_refusals_change_nothing() -> None:
    """Open jobs and aliases are named, and not a key is gone."""
    world = World()
    world.dataset("slides", 1)
    world.model("m", dataset="slides@1")
    world.objects.put("models/m/aliases/best", b"1")
    before = dict(world.objects.data)
    with pytest.raises(FailedPreconditionError, match="m@best"):
        world.purge("slides@1")
    job = world.job("slides@1", state=JobState.RUNNING)
    with pytest.raises(FailedPreconditionError, match=job.name):
        world.purge("slides@1", keep_models=True)
    world.objects.delete(f"jobs/{job.id}/job.json")
    assert world.objects.data == before
    for name in ("slides@2", "jobs/0123456789", f"jobs/{job.id}"):
        with pytest.raises(NotFoundError):
            world.purge(name)


def test_a_job_that_a_worker_still_holds_is_waited_for() -> None:
    """Its last events would come after the removal; the wait has an end."""
    world = World()
    job = world.job("slides@1")
    world.live.acquire_lease(job.id, "w", ttl_s=30, floor=0)
    with pytest.raises(FailedPreconditionError, match="its worker is not done"):
        world.purge(job.name)
    world.live.expire(job.id)
    assert world.purge(job.name).left == []


def test_what_mentions_it_afterwards_is_left() -> None:
    """A record that came late, a key in Redis, a worker that holds it: each is named."""
    world = World()
    world.dataset("slides", 1)
    world.objects.put("jobs/0123456789/events/1.jsonl", b'{"log": "slides@1 read"}')
    world.objects.put("jobs/9876543210/events/1.jsonl", b'{"log": "slides@10, my-slides@1"}')
    world.traces.values["histill:strange"] = {"field": "it was slides@1"}
    world.holdings.tell("w", Told(99, frozenset({"default/slides@1"})), ttl_s=60)
    world.holdings.tell("other", Told(99, frozenset({"acme/slides@1"})), ttl_s=60)
    outcome = world.purge("slides@1")
    assert {each.place for each in outcome.left} == {
        "jobs/0123456789/events/1.jsonl", "histill:strange", "worker w",
    }  # fmt: skip
    assert outcome.workers == ("other",)
    # It can be gone on with: what it concerned is noted until nothing is left.
    assert len(list(world.objects.list("purges/"))) == 1


def test_redis_forgets_the_jobs() -> None:
    """Keys by their names, and members of what stays."""
    world = World()
    job = world.job("slides@1")
    world.traces.values = {
        f"histill:job:{job.id}:events": {"1-0": "log"},
        "histill:celery:histill": {"0": f"[{job.id}]", "1": "[another]"},
    }
    outcome = world.purge(job.name)
    assert world.traces.values == {"histill:celery:histill": {"1": "[another]"}}
    assert (outcome.redis_keys, outcome.left) == (2, [])


def test_kept_models_may_mention_it() -> None:
    """As asked; they are told of, and half a model that a broken-off call left is not kept."""
    world = World()
    world.dataset("slides", 1)
    world.model("m", dataset="slides@1")
    outcome = world.purge("slides@1", keep_models=True)
    assert (outcome.models, outcome.left) == ((), [])
    assert "models/m/1/manifest.json" in {each.place for each in outcome.stays}


def test_a_model_of_the_same_name_is_no_trace() -> None:
    """Where a model is called like the dataset, only what says dataset counts."""
    world = World()
    world.dataset("slides", 1)
    world.model("slides", dataset="other@1")
    world.model("student", teachers=("slides@1",))
    assert world.purge("slides@1").left == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("slides@1", True), ("x/slides@1/y", True), ('"slides@1"', True),
        ("datasets/slides/1/shard", True), ("datasets/slides/versions/1", True),
        ("slides@12", False), ("my-slides@1", False), ("datasets/slides/12/", False),
        ("0123456789abcdef0123", True), ("jobs/0123456789abcdef0123/x", True),
        ("f0123456789abcdef0123", False), ("0123456789abcdef01234", False),
    ],
)  # fmt: skip
def test_words_are_whole(text: str, found: bool) -> None:  # noqa: FBT001
    """Neither a longer number nor a longer name is taken for it."""
    pattern = Words("slides@1", ("0123456789abcdef0123",)).pattern
    assert bool(pattern.search(text)) is found
    assert Mention("k", "", text).text == text
