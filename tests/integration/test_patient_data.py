"""A patient's secrets go through every door; none of them is found anywhere afterwards."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest

from free_ports import free_port
from histill.api.distillation.v1 import job_pb2
from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.api.registry.v1 import dataset_pb2, model_pb2
from histill.api.registry.v1 import registry_service_pb2 as registry
from histill.api.registry.v1 import registry_service_pb2_grpc as registry_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.segmentation import FORMATS, large_parts
from histill.rpc.channel import sync_channel
from house import House, house
from patients import CALL, DICOM_NAME, NAME, SECRETS, TEXTS, damaged, files, write_folder
from pictures import blobs
from students import publish, student
from traces import found_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from services import Service

KEY = "default-admin"
NETWORK = {"architecture": "unet", "width": 4, "depth": 3}
TRAINING = {"steps": 12, "batch_size": 2, "crop_size": 32, "learning_rate": 0.01}


@dataclass
class Heard:
    """All that a caller was told, but for Segmentation objects, which repeat the caller's own.

    Attributes:
        said: Where, and what.
        failures: How many calls failed.
    """

    said: list[tuple[str, bytes]] = field(default_factory=list)
    failures: int = 0

    def call(self, what: str, method: Any, request: Any, **how: Any) -> Any:
        """Makes a call; its answer, a list of them, or ``None`` for a status, which is kept."""
        try:
            answer = method(request, timeout=30, **how)
            if not hasattr(answer, "SerializeToString"):
                answer = list(answer)
        except grpc.RpcError as exc:
            failed: Any = exc
            trailers = list(failed.trailing_metadata() or ())
            told = f"{failed.code()} {failed.details()} {trailers!r}"
            self.said.append((f"error of {what}", told.encode()))
            self.failures += 1
            return None
        return answer

    def keep(self, what: str, *messages: Any) -> None:
        """Keeps messages that were answered."""
        for each in messages:
            data = each if isinstance(each, bytes) else each.SerializeToString()
            self.said.append((f"answer to {what}", data))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Every process of ours, at debug level."""
    with house(tmp_path_factory.mktemp("house"), HISTILL_WORKER__THREADS="1") as made:
        made.start("distill")
        inference = made.start("inference", HISTILL_INFERENCE__POLL_S="0.2")
        publish(made.store, student(), made.folder / "tmp")
        (made.folder / "tmp" / "model.onnx").unlink()
        port, metrics = free_port(), free_port()
        web = {
            "HISTILL_WEB__PORT": str(port),
            "HISTILL_WEB__METRICS_PORT": str(metrics),
            **{
                f"HISTILL_WEB__{name.upper()}": f"127.0.0.1:{made.processes[name].port}"
                for name in ("jobs", "registry", "inference")
            },
        }
        page = made.start("web", **web)
        page.port, page.metrics_port = port, metrics
        inference.wait()
        yield made


def _segment_all(stub: Any, heard: Heard) -> None:
    """Every file in every format, then every damaged one."""
    for name, data in files().items():
        for form, number in FORMATS.items():
            request = pb.SegmentRequest(model="nuclei", encoded=data, format=number)
            answer = heard.call(f"{name} as {form}", stub.Segment, request)
            if answer is not None and form != "dicom-seg":
                heard.keep(f"{name} as {form}", answer)
            elif answer is not None:
                # It repeats whose image it is, to whom sent the image.
                assert DICOM_NAME.encode() in answer.mask
                heard.keep(f"{name} as {form}", answer.summary)
        for index, broken in enumerate(damaged(data)):
            for number in (FORMATS["png"], FORMATS["dicom-seg"]):
                request = pb.SegmentRequest(model="nuclei", encoded=broken, format=number)
                heard.call(f"{name} damaged {index}", stub.Segment, request)


def _segment_large(stub: Any, heard: Heard) -> None:
    """Streams of whole and damaged files, by file and by regions, and one that is cut off."""
    for name, data in files().items():
        for sent in (data, damaged(data)[2], damaged(data)[5]):
            for regions in (False, True):
                header = pb.SegmentLargeHeader(
                    model="nuclei", size_bytes=len(sent), format=FORMATS["geojson"], regions=regions
                )
                parts = large_parts(header, io.BytesIO(sent))
                answers = heard.call(f"{name} streamed", stub.SegmentLarge, parts)
                heard.keep(f"{name} streamed", *(answers or ()))
        header = pb.SegmentLargeHeader(model="nuclei", size_bytes=len(data))
        _cut(stub.SegmentLarge, header, data)


def _cut(method: Any, header: Any, data: bytes) -> None:
    def half() -> Iterator[pb.SegmentLargeRequest]:
        yield pb.SegmentLargeRequest(header=header)
        yield pb.SegmentLargeRequest(chunk=data[: len(data) // 2])
        time.sleep(0.2)
        running.cancel()

    running = method(half(), timeout=30)
    # What was cancelled here has no trailers.
    with suppress(grpc.RpcError):
        list(running)


def _infer(stub: Any, heard: Heard) -> None:
    """The Open Inference Protocol, with names in ids and parameters, right and wrong ones."""
    pixels = blobs(1)[0]
    for parameter in ("", "priority", CALL["parameter"]):
        request = v2.ModelInferRequest(model_name="nuclei", id=f"{NAME} {CALL['id']}")
        request.inputs.add(name="image", datatype="UINT8", shape=(1, *pixels.shape))
        request.raw_input_contents.append(pixels.tobytes())
        if parameter:
            request.parameters[parameter].string_param = CALL["parameter"]
        # What the caller wrote there comes back to the caller, as the protocol wants it.
        named = (("x-request-id", f"{NAME} {CALL['id']}"),)
        heard.call("ModelInfer", stub.ModelInfer, request, metadata=named)
        heard.call("ModelStreamInfer", stub.ModelStreamInfer, iter([request]), metadata=named)


def _upload_cut(stub: Any) -> None:
    """Shards of somebody who does not use the SDK: cut off in the middle, and refused."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as shard:
        data = files()["png.png"]
        for name in (f"train/{CALL['file']}.image.png", f"val/{NAME}.image.png"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    whole = out.getvalue()
    digest = hashlib.sha256(whole).hexdigest()
    header = registry.DatasetHeader(
        dataset_name="cut",
        classes=["background", "object"],
        channels=3,
        label_kind=dataset_pb2.LABEL_KIND_SEMANTIC,
        splits={"train": 1, "val": 1},
        files=[
            model_pb2.ArtifactFile(path="shard-00000.tar", size_bytes=len(whole), sha256=digest)
        ],
    )

    def parts(*, end: int, cancel: bool) -> Iterator[registry.UploadDatasetRequest]:
        yield registry.UploadDatasetRequest(header=header)
        chunk = registry.FileChunk(path="shard-00000.tar", data=whole[:end])
        yield registry.UploadDatasetRequest(chunk=chunk)
        if cancel:
            time.sleep(0.2)
            running.cancel()

    running = stub.UploadDataset.future(parts(end=len(whole) // 2, cancel=True), timeout=30)
    with suppress(grpc.RpcError, grpc.FutureCancelledError):
        running.result()
    # It is told to whom sent it which of its members is wrong; that is nobody else's to read.
    with pytest.raises(grpc.RpcError):
        stub.UploadDataset(parts(end=len(whole), cancel=False), timeout=30)


def _web(page: Service, heard: Heard) -> None:
    """The page's ways to segment, with names in the address, and wrong files."""
    key = {"authorization": f"Bearer {KEY}"}
    address = f"http://127.0.0.1:{page.port}"
    with httpx.Client(base_url=address, headers=key, timeout=30) as client:
        asked = {"model": "nuclei", "note": CALL["form"], "file": f"{CALL['file']} {NAME}.png"}
        for name, data in files().items():
            for sent in (data, *damaged(data)[1:3]):
                for path in ("/api/mask?format=geojson", "/api/segment?picture=1"):
                    url = httpx.URL(path).copy_merge_params(asked)
                    answer = client.post(url, content=sent)
                    heard.said.append((f"web {name} {answer.status_code}", answer.content))
                    heard.said.append(("web headers", repr(answer.headers).encode()))
        client.get(f"/api/models/{CALL['form']}", headers={"referer": f"http://x/{CALL['form']}"})


def _train(house: House, folder: Path, heard: Heard) -> None:
    """A dataset of such files, a job on it with its report and events, and its model."""
    with house.client(KEY) as client:
        pushed = client.datasets.push(write_folder(folder / CALL["file"]), name="slides")
        heard.keep("push", pushed)
        spec = {
            "dataset": pushed.reference,
            "output_model": "made",
            "network": NETWORK,
            "training": TRAINING,
        }
        job = client.jobs.wait(client.jobs.submit({"supervised": spec}).name)
        assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
        heard.keep("job", job, *client.jobs.watch(job.name), client.jobs.report(job.name))
        heard.keep("models", *client.models.list())


def _metrics(house: House) -> Iterator[tuple[str, bytes]]:
    for name, each in house.processes.items():
        with urllib.request.urlopen(
            f"http://127.0.0.1:{each.metrics_port}/metrics", timeout=10
        ) as page:
            yield f"metrics of {name}", page.read()


def test_no_secret_of_a_patient_is_left_anywhere(home: House, tmp_path: Path) -> None:
    """Not in a log, a key, an object, an error, a measure or a temporary file, in any form."""
    sent = [*files().items(), ("call", json.dumps([*CALL.values(), NAME]).encode())]
    planted = {secret for secret in SECRETS if found_in(sent, [secret])}
    # Compressed and profiled ones are found in their files by those who read them.
    assert set(SECRETS) - planted <= set()
    heard = Heard()
    target = f"127.0.0.1:{home.processes['inference'].port}"
    with sync_channel(target, api_key=KEY) as channel:
        _segment_all(rpc.SegmentationServiceStub(channel), heard)
        _segment_large(rpc.SegmentationServiceStub(channel), heard)
        _infer(v2_rpc.GRPCInferenceServiceStub(channel), heard)
    with sync_channel(f"127.0.0.1:{home.processes['registry'].port}", api_key=KEY) as channel:
        _upload_cut(registry_rpc.RegistryServiceStub(channel))
    _web(home.processes["web"], heard)
    _train(home, tmp_path, heard)
    assert heard.failures > 30
    for name in files():
        for way in (f"answer to {name} as png", f"answer to {name} streamed", f"web {name} 200"):
            assert any(place == way for place, _ in heard.said), way
    time.sleep(3)  # until the audit log is shipped

    # A parameter that there is none of is named to the caller who wrote it.
    told = [each for each in heard.said if CALL["parameter"].encode() not in each[1]]
    assert found_in(told, SECRETS) == []
    assert found_in(_metrics(home), SECRETS) == []
    assert home.traces(*SECRETS) == []
    for name, process in home.processes.items():
        assert process.process.poll() is None, name
    # The search does find: the same, hidden in an object.
    home.store.put("hidden/x.json", b"=" + TEXTS["exif"].encode().hex().encode())
    assert home.traces(TEXTS["exif"]) != []
