"""Traces of inference: a real collector, a real service, and callers of every kind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import trustme
from PIL import Image

from certificates import files_in
from collector import Seen, collecting
from free_ports import free_port
from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.rpc.spans import MOST_REQUESTS
from pictures import blobs
from processes import HOST, wait_until_serving
from serving import bucket_of, inference
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Iterator

    from collector import Collector
    from conftest import S3
    from processes import Service

SEGMENT = "histill.api.segmentation.v1.SegmentationService/Segment"
INFER = "inference.GRPCInferenceService/ModelInfer"
STREAM = "inference.GRPCInferenceService/ModelStreamInfer"
STAGES = ("decode", "queue", "compute", "encode")
PARENT = "00-{}-00f067aa0ba902b7-{}"
CLIENT = Path(__file__).parents[1] / "traced_client.py"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where all spans of this file go."""
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def bucket(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bucket with one student."""
    name, store = bucket_of(s3)
    publish(store, student(), tmp_path_factory.mktemp("student"))
    return name


@pytest.fixture(scope="module")
def service(
    s3: S3, bucket: str, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The service, with one worker, small tiles, and batches."""
    settings = {
        "preload": '["nuclei"]', "runtime": "onnxruntime", "workers": "1", "tile": "256",
        "overlap": "32", "max_queue": "100", "batching__max_batch": "4",
    }  # fmt: skip
    traced = {"HISTILL_TRACING__ENDPOINT": collector.endpoint}
    folder = tmp_path_factory.mktemp("inference")
    with inference(s3, folder, traced, bucket=bucket, **settings) as running:
        wait_until_serving(running)
        yield running


@pytest.fixture(scope="module")
def channel(service: Service) -> Iterator[grpc.Channel]:
    """A channel of somebody who knows nothing of traces."""
    with grpc.insecure_channel(service.target) as channel:
        yield channel


def png(side: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(blobs(1, side=side)[0]).save(out, "PNG")
    return out.getvalue()


def segment(channel: grpc.Channel, traceparent: str = "", *, side: int = 64) -> None:
    request = pb.SegmentRequest(model="nuclei", encoded=png(side))
    metadata = (("traceparent", traceparent),) if traceparent else ()
    rpc.SegmentationServiceStub(channel).Segment(request, timeout=60, metadata=metadata)


def tensor(model: str = "nuclei") -> v2.ModelInferRequest:
    request = v2.ModelInferRequest(model_name=model)
    request.inputs.add(name="image", datatype="UINT8", shape=(1, 64, 64, 3))
    request.raw_input_contents.append(np.zeros((64, 64, 3), np.uint8).tobytes())
    return request


def of_trace(collector: Collector, trace: str, *names: str) -> dict[str, Seen]:
    """Spans of a trace by name, once all of these are there."""
    spans = collector.wait(
        lambda spans: set(names) <= {each.name for each in spans if each.trace == trace}
    )
    return {each.name: each for each in spans if each.trace == trace}


def test_a_call_of_the_sdk_is_one_trace_from_the_caller_to_the_stages(
    service: Service, collector: Collector, tmp_path: Path
) -> None:
    """The program's span, the SDK's, the service's, and the four stages lie in one another."""
    image = tmp_path / "image.png"
    image.write_bytes(png(64))
    done = subprocess.run(
        [sys.executable, CLIENT, collector.endpoint, "segment", service.target, "nuclei", image],
        capture_output=True,
        check=True,
        env=os.environ | {"HISTILL_HOME": str(tmp_path)},
        timeout=60,
    )
    trace = done.stdout.decode().strip()
    collector.wait(lambda spans: sum(each.trace == trace for each in spans) == 7)
    found = [each for each in collector.spans if each.trace == trace]
    (look,) = (each for each in found if each.name == "look")
    (called,) = (each for each in found if each.parent == look.id)
    (served,) = (each for each in found if each.parent == called.id)
    assert (called.service, called.name, called.kind) == ("viewer", SEGMENT, 3)
    assert (served.service, served.name, served.kind) == ("histill-inference", SEGMENT, 2)
    stages = {each.name: each for each in found if each.parent == served.id}
    assert tuple(sorted(stages)) == tuple(sorted(STAGES))
    assert served.attributes.pop("histill.request_id")
    about = {"rpc.system": "grpc", "rpc.method": "Segment", "rpc.grpc.status_code": 0}
    about["rpc.service"] = SEGMENT.partition("/")[0]
    model = {"histill.model": "nuclei@1", "histill.project": "default"}
    assert called.attributes == about
    assert served.attributes == about | model
    for name, stage in stages.items():
        assert served.began <= stage.began <= stage.ended <= served.ended + 1e6, name
        assert 0 <= stage.attributes["histill.seconds"] <= (stage.ended - stage.began + 1e6) / 1e9
    assert stages["compute"].attributes["histill.batch.size"] == 1
    order = [stages[name].began for name in STAGES]
    assert order == sorted(order)


def test_a_process_says_which_it_is(service: Service, collector: Collector) -> None:
    """Name, version and an id of its own, as OpenTelemetry names them."""
    del service
    collector.wait(lambda spans: any(each.service == "histill-inference" for each in spans))
    resource = next(r for r in collector.resources if r["service.name"] == "histill-inference")
    assert {"service.version", "service.instance.id", "host.name"} <= resource.keys()


def spans_under_load(channel: grpc.Channel, collector: Collector) -> list[Seen]:
    """Those of 48 small requests, twelve at a time, while a large image is segmented."""
    before = len(collector.spans)
    stub = v2_rpc.GRPCInferenceServiceStub(channel)
    with ThreadPoolExecutor(13) as threads:
        # Its many tiles keep the one worker busy, so that the others wait together.
        busy = threads.submit(segment, channel, side=2000)
        list(threads.map(lambda _: stub.ModelInfer(tensor(), timeout=60), range(48)))
        busy.result()

    def all_came(spans: list[Seen]) -> bool:
        return sum(each.name in {INFER, SEGMENT} for each in spans[before:]) == 49

    return collector.wait(all_came)[before:]


def test_requests_that_share_a_run_share_a_span(
    channel: grpc.Channel, collector: Collector
) -> None:
    """It lies in the trace of one of them, and links lead from it to the others and back."""
    spans: list[Seen] = []
    for _ in range(10):  # whether any two wait at one moment is for the machine to say
        spans = spans_under_load(channel, collector)
        if any(each.name == "batch" for each in spans):
            break
    served = {each.id: each for each in spans if each.name == INFER}
    computing = [each for each in spans if each.name == "compute" and each.parent in served]
    batches = [each for each in spans if each.name == "batch"]
    assert len(computing) == 48
    assert batches
    for batch in batches:
        assert batch.trace == served[batch.parent].trace
        others = [served[link] for link in batch.links]
        assert all(each.trace != batch.trace for each in others)
        assert batch.attributes["histill.batch.size"] == 1 + len(others)
        linked = {each.parent for each in computing if each.links == (batch.id,)}
        assert linked == {batch.parent, *batch.links}
    shared = {parent for batch in batches for parent in (batch.parent, *batch.links)}
    assert all(not each.links for each in computing if each.parent not in shared)


def test_a_large_image_has_one_span_a_stage(channel: grpc.Channel, collector: Collector) -> None:
    """However many tiles it is cut into; how often each stage was at work is told."""
    trace = "a" * 32
    segment(channel, PARENT.format(trace, "01"), side=900)
    of_trace(collector, trace, SEGMENT, *STAGES)
    found = [each for each in collector.spans if each.trace == trace]
    assert sorted(each.name for each in found) == sorted([SEGMENT, *STAGES])
    compute = next(each for each in found if each.name == "compute")
    assert compute.attributes["histill.times"] > 9
    assert 0 < compute.attributes["histill.seconds"] <= (compute.ended - compute.began) / 1e9


def test_a_caller_without_a_trace_begins_one(channel: grpc.Channel, collector: Collector) -> None:
    """Clients made for Triton know nothing of traces; each call has one of its own."""
    before = len(collector.spans)
    stub = v2_rpc.GRPCInferenceServiceStub(channel)
    for _ in range(2):
        stub.ModelInfer(tensor(), timeout=30)
    spans = collector.wait(lambda spans: sum(each.name == INFER for each in spans[before:]) == 2)
    first, second = (each for each in spans[before:] if each.name == INFER)
    assert (first.parent, second.parent) == ("", "")
    assert first.trace != second.trace


@pytest.mark.parametrize(
    "header",
    ["hello", PARENT.format("0" * 32, "01"), "00-" + "c" * 5000, PARENT.format("C" * 32, "01")],
    ids=["words", "zeros", "long", "upper"],
)
def test_a_malformed_traceparent_counts_for_nothing(
    channel: grpc.Channel, collector: Collector, header: str
) -> None:
    """The call is answered, in a trace of its own."""
    before = len(collector.spans)
    segment(channel, header)
    spans = collector.wait(lambda spans: any(each.name == SEGMENT for each in spans[before:]))
    assert next(each for each in spans[before:] if each.name == SEGMENT).parent == ""


def test_a_caller_decides_what_is_not_kept(channel: grpc.Channel, collector: Collector) -> None:
    """A trace whose sampled flag is 0 gets no spans; the next one does."""
    segment(channel, PARENT.format("d" * 32, "00"))
    segment(channel, PARENT.format("e" * 32, "01"))
    of_trace(collector, "e" * 32, SEGMENT)
    assert not [each for each in collector.spans if each.trace == "d" * 32]


def test_a_refused_call_tells_its_code_and_no_words(
    channel: grpc.Channel, collector: Collector
) -> None:
    """What does not exist is the caller's mistake: no fault of the service, and named nowhere."""
    trace = "f" * 32
    with pytest.raises(grpc.RpcError):
        v2_rpc.GRPCInferenceServiceStub(channel).ModelInfer(
            tensor("quartz"), timeout=30, metadata=(("traceparent", PARENT.format(trace, "01")),)
        )
    served = of_trace(collector, trace, INFER)[INFER]
    assert (served.attributes["rpc.grpc.status_code"], served.status) == (5, 0)
    assert not [each for each in collector.requests if b"quartz" in each]


def test_a_stream_without_end_has_spans_for_its_first_requests(
    channel: grpc.Channel, collector: Collector
) -> None:
    """So that one trace cannot grow for ever."""
    trace = "9" * 32
    metadata = (("traceparent", PARENT.format(trace, "01")),)
    requests = iter([tensor() for _ in range(MOST_REQUESTS + 20)])
    stub = v2_rpc.GRPCInferenceServiceStub(channel)
    answers = list(stub.ModelStreamInfer(requests, timeout=60, metadata=metadata))
    assert len(answers) == MOST_REQUESTS + 20
    of_trace(collector, trace, STREAM)
    names = [each.name for each in collector.spans if each.trace == trace]
    assert names.count("compute") == MOST_REQUESTS


def test_a_log_line_names_its_trace(
    service: Service, channel: grpc.Channel, collector: Collector
) -> None:
    """So that it is found from the trace, and the trace from it."""
    trace = "7" * 32
    segment(channel, PARENT.format(trace, "01"))
    of_trace(collector, trace, SEGMENT)
    lines = [line for line in service.log.read_text().splitlines() if trace in line]
    assert len(lines) == 1
    assert '"event": "rpc"' in lines[0]


def test_a_collector_that_is_away_costs_no_call(s3: S3, bucket: str, tmp_path: Path) -> None:
    """Calls are answered, one warning tells of the lost spans, and the process stops cleanly."""
    away = {"HISTILL_TRACING__ENDPOINT": f"http://{HOST}:{free_port()}"}
    with inference(s3, tmp_path, away, bucket=bucket, runtime="onnxruntime") as service:
        wait_until_serving(service)
        with grpc.insecure_channel(service.target) as channel:
            for _ in range(5):
                segment(channel)
    log = service.log.read_text()
    assert log.count("spans_lost") == 1
    assert "Traceback" not in log
    assert log.index("stopped") < log.index("spans_lost")


def test_spans_go_to_a_collector_with_tls_and_only_as_many_as_wanted(
    s3: S3, bucket: str, tmp_path: Path
) -> None:
    """The authority's file is taken; of ten traces begun here a ratio of 0 keeps none."""
    files = files_in(tmp_path / "tls", trustme.CA())
    pair = files.key.read_bytes(), files.certificate.read_bytes()
    with collecting(grpc.ssl_server_credentials([pair])) as collector:
        traced = {
            "HISTILL_TRACING__ENDPOINT": collector.endpoint,
            "HISTILL_TRACING__CA_FILE": str(files.ca),
            "HISTILL_TRACING__RATIO": "0",
        }
        with inference(s3, tmp_path, traced, bucket=bucket, runtime="onnxruntime") as service:
            wait_until_serving(service)
            with grpc.insecure_channel(service.target) as channel:
                for _ in range(10):
                    segment(channel)
                segment(channel, PARENT.format("5" * 32, "01"))
        # The process has ended, and has sent what it had.
        assert {each.trace for each in collector.spans} == {"5" * 32}
