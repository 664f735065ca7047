"""The audit log of real services over a real store, and whoever tampers with it."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from PIL import Image
from typer.testing import CliRunner

from conftest import end, run_s3
from histill.adapters.s3 import S3ObjectStore
from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as rpc
from histill.api.inference.v2 import grpc_service_pb2 as open_pb
from histill.api.inference.v2 import grpc_service_pb2_grpc as open_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as seg_pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as seg_rpc
from histill.cli.app import app
from histill.core import catalog
from histill.core.audit import FOLDER, HEAD
from histill.core.names import parse_reference
from histill.rpc.channel import sync_channel
from processes import s3_environment, wait_until_serving
from services import KEY, service, settings_of
from serving import bucket_of, inference
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from services import Service

SEAL = "a key of the audit log that is long enough"
QUICK = {"HISTILL_AUDIT__EVERY_S": "0.2"}


@pytest.fixture
def variables(s3: S3, valkey: Valkey) -> dict[str, str]:
    """Settings of services in a bucket of their own."""
    bucket = {"HISTILL_S3__BUCKET": f"audit-{uuid.uuid4().hex[:12]}"}
    return settings_of(s3.settings, valkey.settings) | bucket | {"HISTILL_AUDIT__KEY": SEAL}


@pytest.fixture
def store(s3: S3, variables: dict[str, str]) -> S3ObjectStore:
    """The bucket."""
    settings = s3.settings.model_copy(update={"bucket": variables["HISTILL_S3__BUCKET"]})
    made = S3ObjectStore.connect(settings)
    made.ensure_bucket()
    return made


@contextmanager
def calls(running: Service) -> Iterator[rpc.DistillationServiceStub]:
    with sync_channel(f"127.0.0.1:{running.port}", api_key=KEY) as opened:
        yield rpc.DistillationServiceStub(opened)


def cancel(stub: rpc.DistillationServiceStub, request_id: str) -> grpc.StatusCode:
    """Asks for a write that changes nothing, since there is no such job."""
    call = stub.CancelJob.future(
        pb.CancelJobRequest(name="jobs/0123456789"),
        timeout=10,
        metadata=(("x-request-id", request_id),),
    )
    code: grpc.StatusCode = call.code()  # waits for it
    return code


def cli(variables: dict[str, str], *words: str) -> tuple[int, str]:
    """The exit code and the words of a command, with the services' settings."""
    kept = {k: v for k, v in variables.items() if k.startswith(("HISTILL_S3", "HISTILL_AUDIT"))}
    result = CliRunner(env=kept).invoke(app, ["audit", *words], catch_exceptions=False)
    return result.exit_code, result.output


def listed(variables: dict[str, str]) -> list[dict[str, Any]]:
    code, words = cli(variables, "ls", "--json")
    assert code == 0
    return [json.loads(line) for line in words.splitlines()]


def wait_for_records(variables: dict[str, str], request_ids: set[str]) -> None:
    deadline = time.monotonic() + 20
    while missing := request_ids - {record.get("request_id", "") for record in listed(variables)}:
        if time.monotonic() > deadline:
            pytest.fail(f"no record of {len(missing)} of {len(request_ids)} calls")
        time.sleep(0.2)


def under_load(running: Service, threads: int, answered: list[str]) -> Iterator[threading.Thread]:
    """Callers that write until their service is gone, and what was answered to them."""

    def ask() -> None:
        with calls(running) as stub:
            while True:
                request_id = uuid.uuid4().hex
                if cancel(stub, request_id) is not grpc.StatusCode.NOT_FOUND:
                    return
                answered.append(request_id)

    for _ in range(threads):
        thread = threading.Thread(target=ask)
        thread.start()
        yield thread


def test_a_killed_service_loses_no_record(
    variables: dict[str, str], store: S3ObjectStore, tmp_path: Path
) -> None:
    """Whatever was answered before SIGKILL is in one unbroken chain, shipped by the next."""
    never = {"HISTILL_AUDIT__EVERY_S": "3600"}
    answered: list[str] = []
    with service("jobs", tmp_path, variables | never) as running:
        running.wait()
        callers = list(under_load(running, 4, answered))
        while len(answered) < 200:
            time.sleep(0.01)
        running.process.kill()
        for caller in callers:
            caller.join(30)
    assert list(store.list(FOLDER)) == []
    with service("jobs", tmp_path, variables | QUICK) as running:
        running.wait()
        wait_for_records(variables, set(answered))
        assert running.stop() == 0
    code, words = cli(variables, "verify")
    assert code == 0, words
    assert "2 chains" in words  # the second service was asked for nothing, but names the first
    ended = [r for r in listed(variables) if r["code"] == "NOT_FOUND"]
    assert {(r["caller"], r["why"], r["resource"]) for r in ended} == {
        ("test", "NotFound", "jobs/0123456789")
    }


def test_what_is_done_to_the_log_in_the_store_is_found(
    variables: dict[str, str], store: S3ObjectStore, tmp_path: Path
) -> None:
    """The command names the place and exits with 1, for the store and for a copy of it."""
    asked = {uuid.uuid4().hex for _ in range(5)}
    with service("jobs", tmp_path, variables | QUICK) as running:
        running.wait()
        with calls(running) as stub:
            for each in asked:
                cancel(stub, each)
        assert running.stop() == 0
    assert cli(variables, "verify")[0] == 0
    [*segments, head] = sorted(store.list(FOLDER))
    assert head.endswith(HEAD)
    copy = tmp_path / "copy"
    for key in (*segments, head):
        (copy / key).parent.mkdir(parents=True, exist_ok=True)
        (copy / key).write_bytes(store.get(key))
    assert cli(variables, "verify", "--folder", str(copy))[0] == 0
    whole = store.get(segments[0])
    store.put(segments[0], whole.replace(b'"caller":"test"', b'"caller":"else"', 1))
    code, words = cli(variables, "verify")
    assert code == 1
    assert f"{segments[0]} line 1 does not fit its hash" in words.replace("\n", "")
    store.put(segments[0], whole)
    lost = (copy / segments[-1]).read_bytes().splitlines(keepends=True)
    (copy / segments[-1]).write_bytes(b"".join(lost[:-1]))
    code, words = cli(variables, "verify", "--folder", str(copy))
    assert code == 1
    assert "missing at the end" in words.replace("\n", "")
    wrong = variables | {"HISTILL_AUDIT__KEY": "x" * 32}
    assert cli(wrong, "verify")[0] == 1


def test_each_service_follows_the_one_before_it(
    variables: dict[str, str], store: S3ObjectStore, tmp_path: Path
) -> None:
    """When all that one service wrote is removed, the next one's chain tells."""
    for _ in range(2):
        asked = uuid.uuid4().hex
        with service("jobs", tmp_path, variables | QUICK) as running:
            running.wait()
            with calls(running) as stub:
                cancel(stub, asked)
            wait_for_records(variables, {asked})
            assert running.stop() == 0
        time.sleep(1.1)  # names are told apart by the second
    assert cli(variables, "verify")[0] == 0
    first = min(store.list_folders(FOLDER))
    store.delete_prefix(f"{FOLDER}{first}/")
    code, words = cli(variables, "verify")
    assert code == 1
    assert f"{first} is missing" in words.replace("\n", "")


def test_without_its_store_the_log_fills_and_then_refuses_writes(
    valkey: Valkey, tmp_path: Path
) -> None:
    """Nothing is changed that nobody would hear of; with the store back, the gap is told."""
    s3 = run_s3(tmp_path / "s3")
    variables = settings_of(s3.settings, valkey.settings) | QUICK
    variables |= {"HISTILL_AUDIT__KEY": SEAL, "HISTILL_AUDIT__MAX_BYTES": "4096"}
    try:
        with service("jobs", tmp_path, variables) as running, calls(running) as stub:
            running.wait()
            end(s3.server)
            said = ""
            for _ in range(30):
                with pytest.raises(grpc.RpcError) as caught:
                    stub.DeleteJob(pb.DeleteJobRequest(name="jobs/0123456789"), timeout=30)
                said = str(caught.value)
                if "the audit log is full" in said:
                    break
            assert "the audit log is full" in said
            assert "StatusCode.UNAVAILABLE" in said
            s3 = run_s3(tmp_path / "s3", port=int(s3.settings.endpoint.rpartition(":")[2]))
            running.wait()
            deadline, later = time.monotonic() + 20, uuid.uuid4().hex
            while cancel(stub, later) is grpc.StatusCode.UNAVAILABLE:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            wait_for_records(variables, {later})
            assert running.stop() == 0
        code, words = cli(variables, "verify")
        assert code == 0, words
        store = S3ObjectStore.connect(s3.settings)
        lines = b"".join(store.get(key) for key in store.list(FOLDER)).splitlines()
        gaps = [json.loads(line) for line in lines if b'"what":"dropped"' in line]
        assert gaps
        assert all(gap["count"] > 0 for gap in gaps)
    finally:
        end(s3.server)


def test_inferences_are_told_with_the_digest_of_what_answered(s3: S3, tmp_path: Path) -> None:
    """Through every method that segments: the version behind an alias, and its file's digest."""
    bucket, store = bucket_of(s3)
    digest = publish(store, student(), tmp_path).files[0].sha256
    catalog.set_alias(store, parse_reference("nuclei@1", field=""), "production")
    raw = seg_pb.RawImage(data=bytes(16 * 16 * 3), height=16, width=16, channels=3)
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "PNG")
    header = seg_pb.SegmentLargeHeader(model="nuclei@production", size_bytes=len(out.getvalue()))
    tensor = open_pb.ModelInferRequest.InferInputTensor(
        name="image", datatype="UINT8", shape=[1, 16, 16, 3]
    )
    infer = open_pb.ModelInferRequest(
        model_name="nuclei", inputs=[tensor], raw_input_contents=[raw.data]
    )
    missing = open_pb.ModelInferRequest()
    missing.CopyFrom(infer)
    missing.model_name = "nobody"
    with inference(s3, tmp_path, QUICK, bucket=bucket) as running:
        wait_until_serving(running)
        with grpc.insecure_channel(running.target) as opened:
            own = seg_rpc.SegmentationServiceStub(opened)
            own.Segment(seg_pb.SegmentRequest(model="nuclei@production", raw=raw), timeout=30)
            parts = [
                seg_pb.SegmentLargeRequest(header=header),
                seg_pb.SegmentLargeRequest(chunk=out.getvalue()),
            ]
            assert list(own.SegmentLarge(iter(parts), timeout=30))
            theirs = open_rpc.GRPCInferenceServiceStub(opened)
            theirs.ModelInfer(infer, timeout=30)
            assert len(list(theirs.ModelStreamInfer(iter([infer, missing]), timeout=30))) == 2
    environment = s3_environment(s3.settings, bucket=bucket)
    assert cli(environment, "verify")[0] == 0
    told = [
        (
            record["method"].rpartition("/")[2],
            record["code"],
            record["model"],
            record.get("sha256"),
            record["bytes_in"] >= len(out.getvalue()),
        )
        for record in listed(environment)
    ]
    assert told == [
        ("Segment", "OK", "nuclei@1", digest, True),
        ("SegmentLarge", "OK", "nuclei@1", digest, True),
        ("ModelInfer", "OK", "nuclei@1", digest, True),
        ("ModelStreamInfer", "OK", "nuclei@1", digest, True),
        ("ModelStreamInfer", "NOT_FOUND", "nobody", None, True),
    ]
