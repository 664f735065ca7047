"""Removal of a dataset and of jobs, over real processes; the tests look for traces themselves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tarfile
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from histill.adapters.redis_client import connect
from histill.adapters.redis_holdings import RedisHoldings
from histill.api.distillation.v1 import job_pb2
from histill.cli.app import app
from histill.core.errors import (
    FailedPreconditionError,
    HistillError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from histill.core.manifests import ModelManifest, ModelRole, Normalization
from histill.core.ports import Told
from histill.core.projects import scoped
from histill.core.specs import NetworkSpec
from house import House, house
from pictures import write_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from histill.adapters.s3 import S3ObjectStore
    from histill.client import Client

NETWORK = {"architecture": "unet", "width": 4, "depth": 3}
TRAINING = {"steps": 12, "batch_size": 2, "crop_size": 32, "learning_rate": 0.01}
DATASET = "zebediah-quartz"
DESCRIPTION = "slides of Zebediah Quartz, born 1931-07-04"
TITLE = "for Quartzs surgeon"
BUCKET = "histill"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house with a worker that keeps what teachers say."""
    with house(tmp_path_factory.mktemp("house")) as made:
        made.start("distill")
        yield made


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A house without a worker."""
    with house(tmp_path_factory.mktemp("quiet"), HISTILL_PURGE__WAIT_S="2") as made:
        yield made


def supervised(dataset: str, model: str) -> dict[str, Any]:
    spec = {"dataset": dataset, "output_model": model, "network": NETWORK, "training": TRAINING}
    return {"display_name": TITLE, "supervised": spec}


def distilled(dataset: str, model: str, *teachers: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"dataset": dataset, "output_model": model, "teachers": list(teachers)}
    spec |= {"student": NETWORK, "training": TRAINING | {"labeled_images": 2}}
    return {"display_name": TITLE, "multi_teacher": spec}


def done(client: Client, spec: dict[str, Any], *, request_id: str = "") -> job_pb2.Job:
    job = client.jobs.wait(client.jobs.submit(spec, request_id=request_id).name)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
    return job


def cancelled(client: Client, spec: dict[str, Any]) -> str:
    name = client.jobs.submit(spec).name
    client.jobs.cancel(name)
    return name


def picture_bytes(store: S3ObjectStore, prefix: str, folder: Path) -> list[str | bytes]:
    """Digests of a dataset's files and images, and a part of each image's bytes."""
    found: list[str | bytes] = []
    for key in store.list(prefix):
        data = store.get(key)
        found.append(hashlib.sha256(data).hexdigest())
        if key.endswith(".tar"):
            (folder / "shard.tar").write_bytes(data)
            with tarfile.open(folder / "shard.tar") as shard:
                for member in shard:
                    file = shard.extractfile(member)
                    assert file is not None
                    image = file.read()
                    found += [hashlib.sha256(image).hexdigest(), image[60:100]]
    return found


def made_of(store: S3ObjectStore, name: str, *, dataset: str = "", **fields: Any) -> None:
    """Stores a model without files, as the worker would."""
    manifest = ModelManifest(
        name=name,
        version=1,
        role=ModelRole.STUDENT,
        network=NetworkSpec(width=4, depth=3),
        channels=3,
        classes=("background", "object"),
        normalization=Normalization(mean=(0.5,) * 3, std=(0.2,) * 3),
        dataset=dataset,
        create_time=datetime.now(UTC),
        files=(),
        **fields,
    )
    store.put(f"models/{name}/1/weights.safetensors", b"weights")
    store.put(f"models/{name}/1/manifest.json", manifest.model_dump_json().encode())


def stored(house: House) -> list[str]:
    """Keys of all objects but those of the log, which is shipped now and then."""
    return [key for key in house.store.list("") if not key.startswith("audit/")]


def test_a_purged_dataset_leaves_no_trace(home: House, tmp_path: Path) -> None:
    """Neither name nor description nor image is on any disk or in Redis, but for another's."""
    folder = write_dataset(tmp_path / "images")
    with home.client() as ours, home.client("acme-admin") as theirs:
        pushed = ours.datasets.push(folder, name=DATASET, description=DESCRIPTION)
        reference = pushed.reference
        secrets = picture_bytes(home.store, f"datasets/{DATASET}/", tmp_path)
        other = theirs.datasets.push(write_dataset(tmp_path / "other", side=56), name=DATASET)
        spec = supervised(other.reference, "theirs") | {"display_name": "another"}
        their_job = cancelled(theirs, spec)
        teacher = done(ours, supervised(reference, "teacher"), request_id="quartz-1")
        student = done(ours, distilled(DATASET, "student", "teacher@1"))
        ids = [job.name.removeprefix("jobs/") for job in (teacher, student)]
        made_of(home.store, "grandchild", teachers=("student@1",))
        ours.models.alias("student@1", "production")

        # Everything that must go is found while it is there.
        words = [reference, DESCRIPTION, TITLE]
        before = "\n".join(home.traces(*words, *ids, *secrets))
        for place in ("objects/", "cache/default", "histill:job-records", "manifest.json", "html"):
            assert place in before, place

        with pytest.raises(FailedPreconditionError, match="student@production"):
            ours.privacy.purge(reference)
        ours.models.unalias("student", "production")
        answer = ours.privacy.purge(reference)
        assert [f"{each.place} {each.why}" for each in answer.left] == []
        assert sorted(answer.removed.jobs) == sorted(f"jobs/{each}" for each in ids)
        assert list(answer.removed.models) == ["student@1", "teacher@1"]
        assert list(answer.descendants) == ["grandchild@1"]
        assert answer.removed.objects > 10
        assert answer.removed.bytes > 10_000
        assert answer.searched.objects_read > 0
        assert answer.searched.redis_keys > 0
        assert len(answer.searched.workers) == 1

        assert home.traces(DESCRIPTION, TITLE, *secrets) == []
        # Logs tell which job ran when, and nothing of what it ran on.
        assert home.traces_of_names(*ids) == []
        left = home.traces_of_names(reference)
        assert not [each for each in left if "projects/acme/" not in each and "acme" not in each
                    and their_job.removeprefix("jobs/") not in each
                    and "histill:job-records" not in each], left  # fmt: skip
        assert theirs.datasets.get(other.reference).reference == other.reference
        assert theirs.jobs.get(their_job).name == their_job
        with pytest.raises(NotFoundError):
            ours.privacy.purge(reference)


def test_a_job_is_purged_with_its_model_or_without(quiet: House, tmp_path: Path) -> None:
    """The dataset stays; the model does, where asked; a dry run changes nothing."""
    with quiet.client() as client:
        reference = client.datasets.push(write_dataset(tmp_path), name="of-job").reference
        first, second = (cancelled(client, supervised(reference, "m")) for _ in range(2))
        made_of(quiet.store, "kept", dataset=reference, job=first)
        made_of(quiet.store, "going", dataset=reference, job=second)
        before = stored(quiet)
        would = client.privacy.purge(first, dry_run=True)
        assert (list(would.removed.models), would.searched.objects_listed) == (["kept@1"], 0)
        assert stored(quiet) == before

        answer = client.privacy.purge(first, keep_models=True)
        assert list(answer.left) == []
        assert any("models/kept/1/manifest.json" in each.place for each in answer.stays)
        answer = client.privacy.purge(second)
        assert list(answer.left) == []
        assert [m.reference for m in client.models.list()] == ["kept@1"]
        assert client.datasets.get(reference).reference == reference
        assert quiet.traces_of_names(second.removeprefix("jobs/")) == []
        for name in (first, second):
            with pytest.raises(NotFoundError):
                client.jobs.get(name)


def test_what_is_open_anothers_or_nameless_is_refused(quiet: House, tmp_path: Path) -> None:
    """A job that has not ended is named; other projects' things do not exist; operators may not."""
    with (
        quiet.client() as client,
        quiet.client("acme-admin") as acme,
        quiet.client("default-operator") as operator,
    ):
        reference = client.datasets.push(write_dataset(tmp_path), name="refused").reference
        name = client.jobs.submit(supervised("refused", "m")).name
        for each in (name, reference):
            with pytest.raises(FailedPreconditionError, match=name):
                client.privacy.purge(each)
            with pytest.raises(NotFoundError, match="does not exist"):
                acme.privacy.purge(each)
            with pytest.raises(PermissionDeniedError):
                operator.privacy.purge(each)
        for wrong in ("refused", "jobs/", "refused@production", "", "models/x/versions/1"):
            with pytest.raises(InvalidArgumentError, match="name"):
                client.privacy.purge(wrong)
        client.jobs.cancel(name)
        # By its resource name, too; the message that no worker took goes with the job.
        answer = client.privacy.purge("datasets/refused/versions/1")
        assert (list(answer.left), list(answer.removed.jobs)) == ([], [name])
        assert quiet.traces_of_names(name.removeprefix("jobs/"), reference) == []


def test_a_silent_worker_is_named(quiet: House, tmp_path: Path) -> None:
    """A worker that does not say that its disk is clean is left over, until it runs out."""
    holdings = RedisHoldings(connect(quiet.valkey.settings))
    with quiet.client() as client:
        reference = client.datasets.push(write_dataset(tmp_path), name="silent").reference
        holdings.tell("w1", Told(0, frozenset({f"default/{reference}"})), ttl_s=60)
        answer = client.privacy.purge(reference)
        assert [each.place for each in answer.left] == ["worker w1"]
        holdings.leave("w1")
        assert list(client.privacy.purge(reference).left) == []


def test_the_command(quiet: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks, or wants --yes; says what goes, and fails where anything is left."""
    holdings = RedisHoldings(connect(quiet.valkey.settings))
    for name in ("jobs", "registry"):
        target = f"127.0.0.1:{quiet.processes[name].port}"
        monkeypatch.setenv(f"HISTILL_CLIENT__{name.upper()}", target)
    monkeypatch.setenv("HISTILL_CLIENT__API_KEY", "default-admin")
    monkeypatch.setenv("HISTILL_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    with quiet.client() as client:
        client.datasets.push(write_dataset(tmp_path / "images"), name="by-command")
        job = cancelled(client, supervised("by-command", "m"))

    def run(*options: str) -> Result:
        command = ["privacy", "purge", "by-command@1", *options]
        return CliRunner().invoke(app, command)

    unasked = run()
    assert isinstance(unasked.exception, InvalidArgumentError)
    assert "--yes" in str(unasked.exception)
    assert f"jobs {job}" in run("--dry-run").stdout
    holdings.tell("w1", Told(0, frozenset()), ttl_s=60)
    left = run("--yes")
    assert (left.exit_code, "worker w1" in left.stderr) == (1, True)
    assert "removed" in left.stdout
    holdings.leave("w1")
    done = run("--yes", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["removed"]["datasets"] == ["by-command@1"]
    assert isinstance(run("--yes").exception, NotFoundError)


def _vanished(folder: Path, pattern: str) -> Callable[[], bool]:
    """Whether something that was there under the store's folder is gone."""
    assert list(folder.glob(pattern)), pattern
    return lambda: not list(folder.glob(pattern))


@pytest.mark.parametrize("moment", ["noted", "hidden", "models", "jobs"])
def test_a_purge_that_is_killed_is_gone_on_with(quiet: House, tmp_path: Path, moment: str) -> None:
    """Killed at any moment, nothing half removed is seen, and the next call leaves no trace."""
    name = f"crash-{moment}"
    objects = quiet.s3.folder / "objects" / BUCKET
    with quiet.client() as client:
        reference = client.datasets.push(
            write_dataset(tmp_path), name=name, description=DESCRIPTION
        ).reference
        jobs = [cancelled(client, supervised(reference, "m")) for _ in range(6)]
        for index, job in enumerate(jobs):
            made_of(quiet.store, f"{name}-{index}", dataset=reference, job=job)
        first = jobs[0].removeprefix("jobs/")
        reached = {
            "noted": lambda: bool(list(objects.glob("purges/*"))),
            "hidden": _vanished(objects, f"datasets/{name}/1/manifest.json"),
            "models": _vanished(objects, f"models/{name}-*/1/manifest.json"),
            "jobs": _vanished(objects, f"jobs/{first}/job.json"),
        }[moment]
        killed = threading.Event()

        def kill() -> None:
            deadline = time.monotonic() + 30
            while not reached() and time.monotonic() < deadline:
                time.sleep(0.0005)
            os.kill(quiet.s3.server.process.pid, signal.SIGSTOP)
            quiet.processes["jobs"].process.kill()
            quiet.processes["jobs"].process.wait()
            os.kill(quiet.s3.server.process.pid, signal.SIGCONT)
            killed.set()

        thread = threading.Thread(target=kill)
        thread.start()
        # The client would wait for the service to come back.
        client.privacy._timeout_s = 5
        with suppress(HistillError):
            client.privacy.purge(reference)
            pytest.fail("it was done before it was killed")
        thread.join()
        assert killed.is_set()
    quiet.start("jobs").wait()
    with quiet.client() as client:
        # What is seen is whole.
        for model in client.models.list():
            assert quiet.store.get(
                f"models/{model.reference.replace('@', '/')}/weights.safetensors"
            )
        for dataset in client.datasets.list():
            assert any(
                ".tar" in key for key in quiet.store.list(dataset.name.replace("/versions", ""))
            )
        if moment != "noted":
            assert reference not in {each.reference for each in client.datasets.list()}
        answer = client.privacy.purge(reference)
        assert list(answer.left) == []
        assert [m.reference for m in client.models.list() if m.name.startswith(name)] == []
    ids = [job.removeprefix("jobs/") for job in jobs]
    assert quiet.traces(DESCRIPTION) == []
    assert quiet.traces_of_names(reference, *ids) == []


def test_projects_do_not_see_each_other_in_a_proof(quiet: House, tmp_path: Path) -> None:
    """A dataset of the same name in another project is neither removed nor told of."""
    with quiet.client() as ours, quiet.client("acme-admin") as theirs:
        folder = write_dataset(tmp_path)
        for client in (ours, theirs):
            client.datasets.push(folder, name="shared-name")
        job = cancelled(ours, supervised("shared-name@1", "m"))
        answer = theirs.privacy.purge("shared-name@1")
        assert list(answer.left) == []
        assert job not in str(answer)
        assert ours.jobs.get(job).name == job
        assert any(scoped(quiet.store, "default").list("datasets/shared-name/1/"))
