"""The jobs and registry services as real processes over real servers, and what breaks them."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from safetensors.numpy import save_file

from conftest import end, run_s3, run_valkey
from histill.adapters.s3 import S3ObjectStore
from histill.api.distillation.v1 import job_pb2
from histill.api.registry.v1 import model_pb2
from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.api.registry.v1 import registry_service_pb2_grpc as rpc
from histill.client.models import announce
from histill.core.errors import (
    CorruptArtifactError,
    FailedPreconditionError,
    HistillError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from histill.rpc.channel import sync_channel
from histill.rpc.statuses import from_rpc_error
from pictures import write_dataset
from services import client_of, service, settings_of
from torchscripts import Plain, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from histill.client import Client
    from services import Service

SPEC: dict[str, Any] = {"supervised": {"dataset": "discs", "output_model": "m"}}


@pytest.fixture(scope="module")
def variables(s3: S3, valkey: Valkey) -> dict[str, str]:
    """Settings of every process of this file, in a bucket of its own."""
    return settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": "services"}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]) -> Iterator[Service]:
    """A jobs service."""
    with service("jobs", tmp_path_factory.mktemp("jobs"), variables) as running:
        running.wait()
        yield running


@pytest.fixture(scope="module")
def registry(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, str]
) -> Iterator[Service]:
    """A registry service."""
    limits = {"HISTILL_UPLOAD__MAX_BYTES": "3000000"}
    with service("registry", tmp_path_factory.mktemp("registry"), variables | limits) as running:
        running.wait()
        yield running


@pytest.fixture(scope="module")
def client(jobs: Service, registry: Service) -> Iterator[Client]:
    """A client of both."""
    with client_of(jobs, registry) as client:
        yield client


@pytest.fixture(scope="module")
def discs(client: Client, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Reference of a pushed dataset."""
    folder = write_dataset(tmp_path_factory.mktemp("discs"))
    return client.datasets.push(folder, name="discs").reference


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file."""
    path = tmp_path / "weights.safetensors"
    save_file({"w": np.arange(1000, dtype=np.float32)}, path)
    return path


def header(name: str, **changes: Any) -> pb.ModelHeader:
    fields: dict[str, Any] = {
        "model_name": name,
        "role": model_pb2.MODEL_ROLE_TEACHER,
        "channels": 3,
        "classes": ["background", "object"],
        "mean": [0.5] * 3,
        "std": [0.2] * 3,
    }
    return pb.ModelHeader(**(fields | changes))


def test_a_model_is_pushed_found_aliased_and_removed(
    client: Client, weights: Path, tmp_path: Path
) -> None:
    """The life of a model, through the SDK."""
    first = client.models.push(header("net"), [weights])
    second = client.models.push(header("net"), [weights])
    assert (first.reference, second.reference, first.parameters) == ("net@1", "net@2", 1000)
    client.models.alias("net@1", "production")
    assert client.models.get("net@production").reference == "net@1"
    assert [m.reference for m in client.models.list(name="net")] == ["net@2", "net@1"]
    with pytest.raises(FailedPreconditionError, match="production"):
        client.models.delete("net@1")
    _, files = client.models.download("net@production", tmp_path / "down")
    assert files[0].read_bytes() == weights.read_bytes()
    client.models.unalias("net", "production")
    client.models.delete("net@1")
    with pytest.raises(NotFoundError, match="net@1"):
        client.models.get("net@1")


def test_wrong_headers_name_their_fields(client: Client, weights: Path) -> None:
    """Names, roles, classes, statistics and networks are checked before bytes are taken."""
    for changes, field in (
        ({"role": 0}, "header.role"),
        ({"classes": ["only"]}, "header.classes"),
        ({"mean": [0.5]}, "header.mean"),
        ({"std": [0.0] * 3}, "header.std"),
        ({"network_json": '{"architecture": "resnet"}'}, "header.network_json.architecture"),
        ({"network_json": "{"}, "header.network_json"),
        ({"model_name": "No Name"}, "header.model_name"),
    ):
        with pytest.raises(InvalidArgumentError) as caught:
            client.models.push(header("wrong", **changes), [weights])
        assert field in {violation.field for violation in caught.value.violations}


def upload(registry: Service, requests: list[pb.UploadModelRequest]) -> model_pb2.Model:
    with sync_channel(f"127.0.0.1:{registry.port}", api_key="test-key") as channel:
        try:
            return rpc.RegistryServiceStub(channel).UploadModel(iter(requests), timeout=10).model
        except grpc.RpcError as exc:
            raise from_rpc_error(exc) from exc


def parts(name: str, weights: Path, *chunks: pb.FileChunk) -> list[pb.UploadModelRequest]:
    first = header(name)
    first.files.extend(announce([weights]))
    return [
        pb.UploadModelRequest(header=first),
        *(pb.UploadModelRequest(chunk=chunk) for chunk in chunks),
    ]


def test_a_broken_upload_leaves_nothing(
    registry: Service, client: Client, weights: Path, s3: S3
) -> None:
    """Truncated, changed, misnamed and surplus bytes are refused, and no object remains."""
    data = weights.read_bytes()
    whole = pb.FileChunk(path=weights.name, data=data)
    for chunks, error in (
        ([pb.FileChunk(path=weights.name, data=data[:-1])], CorruptArtifactError),
        ([pb.FileChunk(path=weights.name, data=data[:-1] + b"x")], CorruptArtifactError),
        ([pb.FileChunk(path="other", data=data)], InvalidArgumentError),
        ([whole, whole], InvalidArgumentError),
        ([], CorruptArtifactError),
    ):
        with pytest.raises(error):
            upload(registry, parts("broken", weights, *chunks))
    with pytest.raises(InvalidArgumentError, match="must come first"):
        upload(registry, [pb.UploadModelRequest(chunk=whole)])
    with pytest.raises(NotFoundError):
        client.models.get("broken")
    store = S3ObjectStore.connect(s3.settings.model_copy(update={"bucket": "services"}))
    assert list(store.list("models/broken/")) == []


def test_what_is_no_weights_file_is_refused(client: Client, tmp_path: Path) -> None:
    """A text file under the right name is found out by its header."""
    path = tmp_path / "weights.safetensors"
    path.write_text("hello, this is no tensor")
    with pytest.raises(InvalidArgumentError, match="no safetensors file"):
        client.models.push(header("text"), [path])


def test_an_upload_over_the_limit_is_refused_before_it_is_sent(
    client: Client, tmp_path: Path
) -> None:
    """The announced size is enough to refuse."""
    path = tmp_path / "weights.safetensors"
    save_file({"w": np.zeros(1_000_000, np.float32)}, path)
    with pytest.raises(ResourceExhaustedError, match="HISTILL_UPLOAD__MAX_BYTES"):
        client.models.push(header("large"), [path])


def test_a_program_is_pushed_and_found(client: Client, tmp_path: Path) -> None:
    """A TorchScript teacher is registered by what its header says, and never loaded."""
    path = write(Plain(channels=3, outputs=1), tmp_path) / "model.ts"
    fields = {"activation": "sigmoid", "multiple_of": 8, "classes": ["background", "object"]}
    model = client.models.push(header("program", **fields), [path])
    assert (model.architecture, list(model.classes)) == ("torchscript", fields["classes"])
    _, files = client.models.download("program", tmp_path / "down")
    assert files[0].read_bytes() == path.read_bytes()
    with pytest.raises(InvalidArgumentError, match=r"header\.activation"):
        client.models.push(header("program", activation="relu"), [path])
    with pytest.raises(InvalidArgumentError, match=r"header\.network_json"):
        client.models.push(header("program", network_json="{}"), [path])


def test_teachers_of_other_classes_need_a_map(client: Client, discs: str, weights: Path) -> None:
    """Without one the field is named and says what to do; with one the job is accepted."""
    del discs
    client.models.push(header("cells", classes=["ground", "cell"]), [weights])
    spec = {"dataset": "discs", "output_model": "m", "teachers": ["cells"]}
    refused = r"teachers\[0\]: cells@1: no class of the teacher \(ground, cell\)"
    with pytest.raises(InvalidArgumentError, match=refused):
        client.jobs.submit({"multi_teacher": spec})
    maps = {"cells": {"classes": {"cell": "object"}}}
    job = client.jobs.submit({"multi_teacher": spec | {"class_maps": maps}})
    assert client.jobs.get(job.name).multi_teacher.class_maps["cells"].classes == {"cell": "object"}
    client.jobs.cancel(job.name)
    wrong = {"cells": {"classes": {"cell": "objects"}}}
    with pytest.raises(InvalidArgumentError, match=r"class_maps\.cells: cells@1: class_maps names"):
        client.jobs.submit({"multi_teacher": spec | {"class_maps": wrong}})
    with pytest.raises(InvalidArgumentError, match="class_maps names other, which is no teacher"):
        client.jobs.submit({"multi_teacher": spec | {"class_maps": {"other": maps["cells"]}}})


def test_what_no_teacher_knows_is_refused(client: Client, weights: Path, tmp_path: Path) -> None:
    """A class that all teachers take for background is named before anything is trained."""
    folder = write_dataset(tmp_path / "three")
    classes = ["background", "object", "vessel"]
    client.datasets.push(folder, name="three", classes=classes, labels="instance")
    client.models.push(header("two"), [weights])
    spec = {"dataset": "three", "output_model": "m", "teachers": ["two"]}
    with pytest.raises(InvalidArgumentError, match="none of them knows vessel"):
        client.jobs.submit({"multi_teacher": spec})


def test_millimetres_need_a_pixel_size(client: Client, discs: str) -> None:
    """A boundary in mm on a dataset without a pixel size is refused at once."""
    del discs
    spec = {**SPEC["supervised"], "boundary": {"unit": "mm"}}
    with pytest.raises(InvalidArgumentError, match=r"boundary\.unit: is mm"):
        client.jobs.submit({"supervised": spec})


def test_jobs_are_listed_in_pages_and_by_state(client: Client, discs: str) -> None:
    """Newest first, each once, and only those asked for."""
    del discs
    made = [client.jobs.submit(SPEC | {"priority": n}).name for n in range(3)]
    client.jobs.cancel(made[0])
    assert [job.name for job in client.jobs.list()][:3] == made[::-1]
    queued = client.jobs.list(states=(job_pb2.JOB_STATE_QUEUED,))
    assert made[0] not in {job.name for job in queued}
    for name in made[1:]:
        client.jobs.cancel(name)
    client.jobs.delete(made[0])
    with pytest.raises(NotFoundError):
        client.jobs.get(made[0])


def test_watching_an_ended_job_ends(client: Client, discs: str) -> None:
    """Its events come, and a watcher that has seen the last one is not kept."""
    del discs
    name = client.jobs.submit(SPEC).name
    client.jobs.cancel(name)
    events = list(client.jobs.watch(name))
    assert [event.state for event in events] == [
        job_pb2.JOB_STATE_QUEUED,
        job_pb2.JOB_STATE_CANCELLED,
    ]
    assert list(client.jobs.watch(name, after_event_id=events[-1].event_id)) == []
    with pytest.raises(InvalidArgumentError, match="after_event_id"):
        next(iter(client.jobs.watch(name, after_event_id="soon")))
    with pytest.raises(NotFoundError):
        next(iter(client.jobs.watch("jobs/00000000")))


def test_output_only_fields_are_refused(client: Client) -> None:
    """What the service sets cannot be set by a caller."""
    job = job_pb2.Job(state=job_pb2.JOB_STATE_SUCCEEDED, result_model="x", priority=-1)
    job.supervised.dataset = "d"
    job.supervised.output_model = "m"
    with pytest.raises(InvalidArgumentError) as caught:
        client.jobs.submit(job)
    found = {violation.field for violation in caught.value.violations}
    assert found == {"job.state", "job.result_model", "job.priority"}


def test_a_missing_or_wrong_key_is_refused(jobs: Service, registry: Service) -> None:
    """Neither service answers a stranger."""
    for key in ("", "wrong"):
        with client_of(jobs, registry, key=key) as stranger:
            with pytest.raises(UnauthenticatedError):
                list(stranger.jobs.list())
            with pytest.raises(UnauthenticatedError):
                list(stranger.models.list())


def test_reflection_and_metrics_are_there(jobs: Service, registry: Service) -> None:
    """Anybody's tools can list the services and scrape the metrics."""
    for running, name in ((jobs, "DistillationService"), (registry, "RegistryService")):
        with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            listed = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert any(full.endswith(name) for full in listed)
        assert "grpc.health.v1.Health" in listed
        url = f"http://127.0.0.1:{running.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert b"grpc_server_handled_total" in answer.read()


def test_jobs_come_back_after_the_service_and_redis_are_lost(tmp_path: Path, s3: S3) -> None:
    """With Redis empty and the service new, S3 alone brings every job back."""
    redis = run_valkey(tmp_path / "valkey")
    own = settings_of(s3.settings, redis.settings) | {"HISTILL_S3__BUCKET": "rebuilt"}
    try:
        with (
            service("registry", tmp_path, own) as registry,
            service("jobs", tmp_path, own) as jobs,
        ):
            registry.wait()
            jobs.wait()
            with client_of(jobs, registry) as client:
                client.datasets.push(write_dataset(tmp_path / "discs"), name="discs")
                name = client.jobs.submit(SPEC, request_id="once").name
            assert jobs.stop() == 0
    finally:
        end(redis.server)
    fresh = run_valkey(tmp_path / "fresh")
    own |= {"HISTILL_REDIS__URL": fresh.settings.url.get_secret_value()}
    try:
        with service("jobs", tmp_path, own) as jobs:
            jobs.wait()
            with client_of(jobs) as client:
                assert [job.name for job in client.jobs.list()] == [name]
                assert client.jobs.submit(SPEC, request_id="once").name == name
    finally:
        end(fresh.server)


def test_a_dead_redis_is_told_and_recovered_from(tmp_path: Path, s3: S3) -> None:
    """Calls say UNAVAILABLE and health says NOT_SERVING, until Redis is back."""
    redis = run_valkey(tmp_path / "valkey")
    own = settings_of(s3.settings, redis.settings) | {"HISTILL_S3__BUCKET": "no-redis"}
    with service("jobs", tmp_path, own) as jobs:
        jobs.wait()
        end(redis.server)
        with client_of(jobs) as client, pytest.raises(UnavailableError, match="HISTILL_REDIS__URL"):
            list(client.jobs.list())
        jobs.wait(ready=False)
        assert jobs.process.poll() is None


def test_a_dead_s3_is_told_and_recovered_from(tmp_path: Path, valkey: Valkey) -> None:
    """The registry says so while S3 is away, and serves again when it is back."""
    store = run_s3(tmp_path / "s3")
    own = settings_of(store.settings, valkey.settings)
    with service("registry", tmp_path, own) as registry:
        registry.wait()
        end(store.server)
        with client_of(registry=registry) as client, pytest.raises(UnavailableError):
            list(client.models.list())
        registry.wait(ready=False)
        port = int(store.settings.endpoint.split(":")[1])
        again = run_s3(tmp_path / "s3", port=port)
        try:
            registry.wait()
            with client_of(registry=registry) as client:
                assert list(client.models.list()) == []
        finally:
            end(again.server)


@pytest.mark.skipif(os.geteuid() != 0, reason="a full disk is made by mounting one, as root")
def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, valkey: Valkey, weights: Path
) -> None:
    """When S3 has no room, the upload fails with words and no half of it is visible."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        store = run_s3(small)
        own = settings_of(store.settings, valkey.settings)
        save_file({"w": np.zeros(200_000, np.float32)}, weights)
        with service("registry", tmp_path, own) as registry:
            registry.wait()
            with client_of(registry=registry) as client:
                with pytest.raises(HistillError):
                    client.models.push(header("full"), [weights])
                with pytest.raises(NotFoundError):
                    client.models.get("full")
                assert list(client.models.list()) == []
        end(store.server)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def run_once(module: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    return subprocess.run(
        [sys.executable, "-m", f"histill.{module}"],
        env=clean | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("module", ["jobs", "registry", "inference", "distill"])
def test_a_misspelled_setting_stops_the_start(module: str) -> None:
    """Every process names the variable, and the one that was meant."""
    done = run_once(module, HISTILL_S3__ENDPIONT="x")
    assert done.returncode == 1
    assert "did you mean HISTILL_S3__ENDPOINT?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["jobs", "registry", "inference", "distill"])
def test_a_missing_secret_is_named(module: str) -> None:
    """Without keys of S3 no process starts, and it says which variable is missing."""
    done = run_once(module)
    assert done.returncode == 1
    assert "HISTILL_S3__SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_taken_port_is_named(jobs: Service, variables: dict[str, str]) -> None:
    """A second service on the same port says which setting to change."""
    own = {"HISTILL_SERVER__HOST": "127.0.0.1", "HISTILL_SERVER__PORT": str(jobs.port)}
    done = run_once("jobs", **variables, **own)
    assert done.returncode == 1
    assert "HISTILL_SERVER__PORT" in done.stderr
    assert "Traceback" not in done.stderr
