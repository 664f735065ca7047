"""One attempt at a job, over fakes held to the adapters' contract and a real child process."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryObjects, MemoryVersions
from histill.adapters.ed25519 import PRIVATE, PUBLIC, load_signing, new_pair
from histill.core import catalog
from histill.core.catalog import DATASETS, MODELS
from histill.core.errors import NotFoundError, QueueUnavailableError, StorageUnavailableError
from histill.core.event_archive import archived
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
from histill.core.projects import scoped
from histill.core.signing import Signing, SigningSettings
from histill.core.specs import DataFreeSpec, MultiTeacherSpec, NetworkSpec, SupervisedSpec
from histill.core.trust import check_signature
from histill.distill.settings import WorkerPart
from histill.distill.supervisor import Worker, run_job

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 5, 4, tzinfo=UTC)
# Stands for the trainer: reads the order, says something, leaves two files and a result.
TRAINER = """
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
order = json.loads((root / "run.json").read_text())
assert (root / "dataset" / "shard-0.tar").read_bytes() == b"shard"
print(json.dumps({"progress": {"stage": "training", "step": 1, "steps": 1},
                  "metrics": {"loss": 0.5, "step_seconds": 0.1}}), flush=True)
print("a word", file=sys.stderr)
(root / "result").mkdir()
(root / "result" / "weights.safetensors").write_bytes(b"w")
(root / "result" / "report.html").write_text("<p>report</p>")
(root / "result.json").write_text(json.dumps({
    "role": "TEACHER", "channels": 3, "classes": ["background", "object"],
    "normalization": {"mean": [0.5], "std": [0.5]}, "parameters": 7, "metrics": {"dice": 0.75}}))
"""
LOOK = """
found = [[path.name for path in (root / "teachers" / str(i)).iterdir()] for i in range(2)]
assert found == [["weights.safetensors"], ["model.ts"]], found
"""
# Stands for the trainer of a data-free job that goes on from a checkpoint.
FREE = """
import json, pathlib, sys
root = pathlib.Path(sys.argv[1])
order = json.loads((root / "run.json").read_text())
assert "dataset" not in order and not (root / "dataset").exists()
teacher = sorted(path.name for path in (root / "teachers" / "0").iterdir())
assert teacher == ["statistics.safetensors", "weights.safetensors"], teacher
assert (root / "checkpoint.safetensors").read_bytes() == b"before"
(root / "checkpoint.safetensors").write_bytes(b"after!")
print(json.dumps({"progress": {"stage": "training", "step": 1, "steps": 1}}), flush=True)
(root / "result").mkdir()
for name in ("weights.safetensors", "samples.npz", "generators.safetensors", "report.html"):
    (root / "result" / name).write_text(name)
(root / "result.json").write_text(json.dumps({
    "role": "STUDENT", "channels": 3, "classes": ["background", "object"],
    "normalization": {"mean": [0.5], "std": [0.5]}, "parameters": 7, "metrics": {}}))
"""
SLEEPER = "import time; time.sleep(60)"


@dataclass
class World:
    """A worker and what it works on."""

    root: Path
    code: str = TRAINER
    live: MemoryLive = field(default_factory=MemoryLive)
    objects: MemoryObjects = field(default_factory=MemoryObjects)
    signing: Signing = field(default_factory=Signing)

    def __post_init__(self) -> None:
        self.jobs = JobStore(self.objects, MemoryIndex(built=True), MemoryEvents(), lambda: NOW)
        self.worker = Worker(
            objects=self.objects,
            versions=MemoryVersions(),
            jobs=self.jobs,
            live=self.live,
            settings=WorkerPart(
                lease_ttl_s=1, poll_s=0.05, stop_grace_s=0.2, drain_s=0.2, patience_s=0.5
            ),
            scratch=self.root,
            clock=lambda: NOW,
            draining=threading.Event(),
            command=lambda folder: [sys.executable, "-c", self.code, str(folder.root)],
            signing=self.signing,
        )
        shard = self.root / "shard-0.tar"
        shard.write_bytes(b"shard")
        dataset = DatasetManifest(
            name="d",
            version=0,
            classes=("background", "object"),
            channels=3,
            label_kind=LabelKind.SEMANTIC,
            splits={"train": 1, "val": 1},
            create_time=NOW,
            files=(catalog.file_of(shard),),
        )
        catalog.publish(
            self.objects, MemoryVersions(), DATASETS, dataset, [shard], signer=self.signing.signer
        )

    def add(self, dataset: str = "d") -> Job:
        spec = SupervisedSpec(dataset=dataset, output_model="m")
        return self.jobs.create(Job(id=new_job_id(), spec=spec, create_time=NOW))

    def run(self, job: Job) -> Job:
        run_job(job.id, self.worker)
        return self.jobs.get(job.id)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with one dataset."""
    return World(tmp_path)


def test_a_job_ends_with_a_registered_model(world: World) -> None:
    """Result, lineage, report, progress, log and events are all where they belong."""
    job = world.run(world.add())
    assert (job.state, job.attempt, job.result_model) == (
        JobState.SUCCEEDED,
        1,
        "models/m/versions/1",
    )
    model = catalog.find(world.objects, MODELS, "m")
    assert (model.job, model.dataset, model.parameters) == (job.name, "d@1", 7)
    assert [file.path for file in model.files] == ["weights.safetensors"]
    assert world.objects.get(f"jobs/{job.id}/report.html") == b"<p>report</p>"
    events = world.jobs.events.read(job.id)
    assert [event.state for event in events if event.state] == [
        JobState.QUEUED,
        JobState.RUNNING,
        JobState.SUCCEEDED,
    ]
    stages = [event.progress.stage for event in events if event.progress]
    assert stages == ["fetching", "training", "publishing"]
    assert "a word" in [event.log for event in events]
    assert not world.live.leases([job.id])
    assert list(archived(world.objects, job.id)) == events
    assert job.closed


def test_the_trainer_finds_the_file_that_each_teacher_has(world: World) -> None:
    """Weights of one with a network, the program of one without, and nothing else of either."""
    for name, network in (("weights.safetensors", NetworkSpec()), ("model.ts", None)):
        paths = [world.root / name, world.root / "card.md"]
        for path in paths:
            path.write_text(name)
        manifest = ModelManifest(
            name="program" if network is None else "weights",
            version=0,
            role=ModelRole.TEACHER,
            network=network,
            channels=3,
            classes=("background", "object"),
            normalization=Normalization(mean=(0.5,) * 3, std=(0.5,) * 3),
            create_time=NOW,
            files=tuple(catalog.file_of(path) for path in paths),
        )
        catalog.publish(world.objects, MemoryVersions(), MODELS, manifest, paths)
    world.code = TRAINER + LOOK
    spec = MultiTeacherSpec(dataset="d", output_model="m", teachers=("weights", "program"))
    job = world.run(world.jobs.create(Job(id=new_job_id(), spec=spec, create_time=NOW)))
    assert job.error is None


def test_a_message_that_comes_twice_runs_once(world: World) -> None:
    """The second delivery finds the job ended and changes nothing."""
    job = world.run(world.add())
    assert world.run(job) == job
    assert [m.version for m in catalog.iterate(world.objects, MODELS)] == [1]


def test_a_job_that_somebody_runs_is_left_alone(world: World) -> None:
    """A held lease means a live worker."""
    job = world.add()
    world.live.acquire_lease(job.id, "another", ttl_s=30, floor=0)
    assert world.run(job).state is JobState.QUEUED


def test_a_deleted_job_is_no_error(world: World) -> None:
    """A message may outlive its job."""
    run_job("0" * 20, world.worker)


def test_a_failed_trainer_fails_the_job_with_the_end_of_its_log(world: World) -> None:
    """Reason, hint and the last lines are in the record."""
    world.code = "raise ValueError('odd label')"
    job = world.run(world.add())
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.reason == "TRAINER_CRASHED"
    assert job.error.log_tail[-1] == "ValueError: odd label"
    with pytest.raises(NotFoundError):
        catalog.find(world.objects, MODELS, "m")


def test_missing_and_corrupt_inputs_fail_with_what_helps(world: World) -> None:
    """What was deleted or damaged after the job's creation is told by name."""
    gone = world.run(world.add("elsewhere"))
    assert gone.error is not None
    assert gone.error.reason == "NOT_FOUND"
    world.objects.data["datasets/d/1/shard-0.tar"] = b"other"
    damaged = world.run(world.add())
    assert damaged.error is not None
    assert damaged.error.reason == "CORRUPT_ARTIFACT"


def later(seconds: float, action: object) -> None:
    timer = threading.Timer(seconds, action)  # type: ignore[arg-type]
    timer.daemon = True
    timer.start()


def test_a_cancel_request_stops_the_trainer(world: World) -> None:
    """The job ends CANCELLED soon after the flag goes up."""
    world.code = SLEEPER
    job = world.add()
    later(0.4, lambda: world.live.request_cancel(job.id))
    started = time.monotonic()
    assert world.run(job).state is JobState.CANCELLED
    assert time.monotonic() - started < 4
    assert not world.live.cancel_requested(job.id)


def token(world: World, job: Job) -> str:
    return world.live.leases([job.id])[job.id].token


def test_a_lost_lease_stops_the_trainer_and_changes_nothing(world: World) -> None:
    """The loser leaves the record to whoever has the job now."""
    world.code = SLEEPER
    job = world.add()
    later(0.4, lambda: world.live.revoke_lease(job.id, token(world, job), floor=0))
    left = world.run(job)
    assert (left.state, left.end_time) == (JobState.RUNNING, None)


def test_a_stale_attempt_cannot_publish(world: World) -> None:
    """A result that comes after another attempt began is thrown away."""
    job = world.add()

    def overtaken() -> None:
        world.jobs.update(job.id, lambda j: j.model_copy(update={"fence": j.fence + 1}))

    world.code = "import time; time.sleep(0.8)\n" + TRAINER
    later(0.4, overtaken)
    assert world.run(job).state is JobState.RUNNING
    assert list(catalog.iterate(world.objects, MODELS)) == []


def test_a_draining_worker_gives_the_job_back(world: World) -> None:
    """The job is queued again, for another worker."""
    world.code = SLEEPER
    job = world.add()
    later(0.4, world.worker.draining.set)
    given = world.run(job)
    assert (given.state, given.attempt) == (JobState.QUEUED, 1)


def test_a_job_left_running_by_a_lost_worker_is_taken_over(world: World) -> None:
    """A free lease means that its worker is gone: the next one starts attempt two."""
    job = world.add()
    world.jobs.update(job.id, lambda j: j.moved_to(JobState.RUNNING, at=NOW, fence=40))
    done = world.run(job)
    assert (done.state, done.attempt, done.fence) == (JobState.SUCCEEDED, 2, 41)


def test_a_result_that_redis_did_not_hear_of_is_kept(world: World) -> None:
    """Once the record says SUCCEEDED, a Redis that leaves takes no model away."""
    job = world.add()

    def away(*_: object) -> None:
        raise QueueUnavailableError("away")

    def publish_then_lose_redis() -> None:
        world.jobs.index.save = away  # type: ignore[method-assign,assignment]
        world.jobs.events.append = away  # type: ignore[method-assign,assignment]

    world.code = "import time; time.sleep(0.8)\n" + TRAINER
    later(0.4, publish_then_lose_redis)
    run_job(job.id, world.worker)
    assert world.jobs.stored(job.id).state is JobState.SUCCEEDED
    assert catalog.find(world.objects, MODELS, "m@1").job == job.name


def test_drains_are_no_losses(world: World) -> None:
    """A job that is given back at every update is not given up."""
    world.code = SLEEPER
    job = world.add()
    for _ in range(4):
        world.worker.draining.clear()
        later(0.3, world.worker.draining.set)
        given = world.run(job)
    assert (given.state, given.attempt, given.losses) == (JobState.QUEUED, 4, 0)


def test_a_crashed_watch_stops_the_attempt(world: World) -> None:
    """An attempt that nobody watches any more must not go on."""
    world.code = SLEEPER
    job = world.add()

    def broken(_: str) -> bool:
        raise ZeroDivisionError

    world.live.cancel_requested = broken  # type: ignore[method-assign,assignment]
    assert world.run(job).state is JobState.RUNNING  # left to the reaper


@pytest.mark.parametrize("keep", [False, True])
def test_a_data_free_job_gets_its_teacher_and_checkpoint_alone(world: World, keep: bool) -> None:  # noqa: FBT001
    """No dataset; samples stay with the job, and go to the model only when asked for."""
    world.code = FREE
    paths = [world.root / name for name in ("weights.safetensors", "statistics.safetensors")]
    for path in paths:
        path.write_text("t")
    teacher = ModelManifest(
        name="t",
        version=0,
        role=ModelRole.TEACHER,
        network=NetworkSpec(),
        channels=3,
        classes=("background", "object"),
        normalization=Normalization(mean=(0.5,), std=(0.5,)),
        create_time=NOW,
        files=tuple(map(catalog.file_of, paths)),
    )
    catalog.publish(world.objects, MemoryVersions(), MODELS, teacher, paths)
    spec = DataFreeSpec(output_model="free", teachers=("t",), keep_generators=keep)
    job = world.jobs.create(Job(id=new_job_id(), spec=spec, create_time=NOW))
    world.objects.put(f"jobs/{job.id}/checkpoints/000000000000.safetensors", b"before")
    ended = world.run(job)
    assert ended.state is JobState.SUCCEEDED, ended.error
    model = catalog.find(world.objects, MODELS, "free")
    assert (model.dataset, model.teachers) == ("", ("t@1",))
    extra = {"samples.npz", "generators.safetensors"}
    assert ({file.path for file in model.files} & extra == extra) is keep
    assert world.objects.get(f"jobs/{job.id}/samples.npz") == b"samples.npz"
    assert list(world.objects.list(f"jobs/{job.id}/checkpoints/")) == []


def test_what_is_trained_on_and_what_is_made_is_signed(tmp_path: Path) -> None:
    """An unsigned dataset is refused with words; a student bears the worker's signature."""
    new_pair(tmp_path / "keys")
    private, public = (str(tmp_path / "keys" / name) for name in (PRIVATE, PUBLIC))
    signing = load_signing(SigningSettings(key=private, trusted=public))
    world = World(tmp_path, signing=signing)
    made = world.run(world.add())
    assert made.state is JobState.SUCCEEDED, made.error
    student = catalog.find(world.objects, MODELS, "m")
    check_signature(world.objects, MODELS, student, signing.verifier)
    world.objects.delete("datasets/d/1/manifest.sig")
    refused = world.run(world.add())
    assert refused.error is not None
    assert refused.error.reason == "UNTRUSTED_ARTIFACT"


def test_a_job_sees_its_own_projects_data_and_publishes_there(world: World) -> None:
    """Another project's dataset of that name is not there for it, nor its model for others."""
    spec = SupervisedSpec(dataset="d", output_model="m")
    blind = Job(id=new_job_id(), spec=spec, create_time=NOW, project="other")
    refused = world.run(world.jobs.create(blind))
    assert refused.error is not None
    assert refused.error.reason == "NOT_FOUND"
    for key in list(world.objects.list("datasets/")):
        world.objects.put(f"projects/other/{key}", world.objects.get(key))
    job = world.jobs.create(blind.model_copy(update={"id": new_job_id()}))
    assert world.run(job).state is JobState.SUCCEEDED
    with pytest.raises(NotFoundError):
        catalog.find(world.objects, MODELS, "m")
    assert catalog.find(scoped(world.objects, "other"), MODELS, "m").job == job.name


def test_a_result_that_a_lost_worker_left_is_taken(world: World) -> None:
    """It had published and died before it said so: nothing is trained again."""
    first = world.run(world.add())
    version = catalog.find(world.objects, MODELS, "m").version
    undone = {"state": JobState.RUNNING, "result_model": "", "closed": False, "end_time": None}
    world.jobs.update(first.id, lambda job: job.model_copy(update=undone))
    world.code = "raise SystemExit(1)"
    again = world.run(first)
    assert again.state is JobState.SUCCEEDED
    assert again.result_model == f"models/m/versions/{version}"
    assert again.metrics == {"dice": 0.75}
    assert len(list(catalog.iterate(world.objects, MODELS))) == 1


def test_half_a_result_that_a_lost_worker_left_is_removed(world: World) -> None:
    """Files without a manifest: the next attempt publishes another version, alone."""
    job = world.add()
    world.objects.put("models/m/5/weights.safetensors", b"half")
    world.jobs.update(
        job.id,
        lambda j: j.moved_to(JobState.RUNNING, at=NOW).model_copy(update={"publishing": "m@5"}),
    )
    assert world.run(job).state is JobState.SUCCEEDED
    assert not list(world.objects.list("models/m/5/"))
    assert len(list(catalog.iterate(world.objects, MODELS))) == 1


def test_servers_that_are_away_for_a_moment_cost_nothing(world: World) -> None:
    """The result is published once they are back, in the same attempt."""
    world.worker = replace(
        world.worker, settings=world.worker.settings.model_copy(update={"patience_s": 20})
    )
    put_file, away = world.objects.put_file, [True, True]

    def put(key: str, path: Path) -> None:
        if key.startswith("models/") and away and away.pop():
            raise StorageUnavailableError("away")
        put_file(key, path)

    world.objects.put_file = put  # type: ignore[method-assign]
    done = world.run(world.add())
    assert (done.state, done.attempt, done.losses) == (JobState.SUCCEEDED, 1, 0)
    assert [m.reference for m in catalog.iterate(world.objects, MODELS)] == ["m@3"]
    assert {key.split("/")[2] for key in world.objects.list("models/m/")} == {"3"}


def test_a_killed_trainer_is_tried_again(world: World) -> None:
    """It may be no fault of the job; after the last try the job says what it most likely was."""
    world.code = "import os; os.kill(os.getpid(), 9)"
    job = world.add()
    states = [world.run(job).state for _ in range(3)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    ended = world.jobs.get(job.id)
    assert ended.error is not None
    assert ended.error.reason == "OUT_OF_MEMORY"


def test_a_lease_that_redis_lost_is_taken_again(world: World) -> None:
    """Nobody else had it: the attempt goes on as if nothing had been."""
    world.code = "import time; time.sleep(2)\n" + TRAINER
    job = world.add()

    def lose() -> None:
        world.live.expire(job.id)
        world.live.fences.clear()

    later(0.4, lose)
    done = world.run(job)
    assert (done.state, done.attempt) == (JobState.SUCCEEDED, 1)


def test_a_result_that_another_took_over_is_left_to_it(world: World) -> None:
    """The record still names the version: whoever has the job now may be taking it."""
    job = world.add()
    publish = world.objects.put

    def taken_over(key: str, data: bytes) -> None:
        publish(key, data)
        if key.endswith("models/m/1/manifest.json"):
            world.jobs.update(job.id, lambda j: j.model_copy(update={"fence": j.fence + 1}))

    world.objects.put = taken_over  # type: ignore[method-assign]
    assert world.run(job).state is JobState.RUNNING
    assert catalog.find(world.objects, MODELS, "m@1").job == job.name


def test_nothing_is_stored_of_a_job_that_was_deleted_meanwhile(world: World) -> None:
    """Neither its report, which shows patients' images, nor a model; the worker goes on."""
    job = world.add()

    def deleted() -> None:
        world.objects.delete_prefix(f"jobs/{job.id}/")
        world.jobs.index.delete(job.id)

    world.code = "import time; time.sleep(0.8)\n" + TRAINER
    later(0.4, deleted)
    run_job(job.id, world.worker)
    assert list(world.objects.list("jobs/")) == []
    assert list(world.objects.list("models/")) == []


def test_a_manifest_without_its_files_is_no_result(world: World) -> None:
    """A sleeper wrote it after its files had been removed: the job is done again."""
    first = world.run(world.add())
    world.objects.delete("models/m/1/weights.safetensors")
    undone = {"state": JobState.RUNNING, "result_model": "", "closed": False, "end_time": None}
    world.jobs.update(first.id, lambda job: job.model_copy(update=undone))
    again = world.run(first)
    assert (again.state, again.result_model) == (JobState.SUCCEEDED, "models/m/versions/2")
    assert [m.reference for m in catalog.iterate(world.objects, MODELS)] == ["m@2"]


def test_the_report_of_who_has_lost_the_job_replaces_none(world: World) -> None:
    """The winner's report stays."""
    job = world.add()

    def overtaken() -> None:
        world.objects.put(f"jobs/{job.id}/report.html", b"the winner's")
        world.jobs.update(job.id, lambda j: j.model_copy(update={"fence": j.fence + 1}))

    world.code = "import time; time.sleep(0.8)\n" + TRAINER
    later(0.4, overtaken)
    world.run(job)
    assert world.objects.get(f"jobs/{job.id}/report.html") == b"the winner's"
