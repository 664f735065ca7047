"""Batching in a real process: many callers at a time get the answers that they get alone."""

from __future__ import annotations

import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import grpc
import numpy as np

from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from pictures import blobs
from processes import HOST, wait_until_serving
from serving import bucket_of, inference
from serving_models import STUDENT, as_student, write_models

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3
    from processes import Service

CALLERS, EACH = 16, 6
# Two that the stride makes equal, others apart, and one that is cut into tiles.
SIDES = ((64, 64), (57, 64), (96, 48), (128, 128), (300, 280))


def segment(channel: grpc.Channel, number: int) -> bytes:
    """Mask and confidence map through our own API."""
    height, width = SIDES[number % len(SIDES)]
    pixels = np.ascontiguousarray(blobs(number, side=300)[0][:height, :width])
    request = pb.SegmentRequest(
        model=STUDENT,
        raw=pb.RawImage(data=pixels.tobytes(), height=height, width=width, channels=3),
        format=pb.MASK_FORMAT_RAW,
        confidence_map=True,
        priority=pb.PRIORITY_STAT if number % 7 == 0 else pb.PRIORITY_UNSPECIFIED,
    )
    answer = rpc.SegmentationServiceStub(channel).Segment(request, timeout=60)
    return answer.mask + answer.confidence_map


def infer(channel: grpc.Channel, number: int) -> bytes:
    """Mask and confidence of one to three images through the Open Inference Protocol."""
    height, width = SIDES[number % (len(SIDES) - 1)]
    count = 1 + number % 3
    images = np.stack([blobs(number + n, side=128)[0][:height, :width] for n in range(count)])
    request = v2.ModelInferRequest(model_name=STUDENT)
    request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    answer = v2_rpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
    return b"".join(answer.raw_output_contents)


def ask(channel: grpc.Channel, number: int) -> bytes:
    return (segment if number % 2 else infer)(channel, number)


def sizes_of_runs(service: Service) -> tuple[float, float]:
    """Runs that the histogram has seen, and images of them all."""
    url = f"http://{HOST}:{service.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    found = re.findall(
        r"^histill_inference_batch_size_(?:count|sum)\{.*\} (\S+)", text, re.MULTILINE
    )
    count, total = map(float, found)
    return count, total


def test_a_crowd_is_answered_as_each_would_be_alone(s3: S3, tmp_path: Path) -> None:
    """Sixteen callers with images of many sizes: byte for byte the same, in fewer runs."""
    bucket, store = bucket_of(s3)
    write_models(tmp_path)
    as_student(store, tmp_path / f"{STUDENT}.onnx", name=STUDENT)
    general = {
        "preload": f'["{STUDENT}"]',
        "runtime": "onnxruntime",  # what is chosen by measurement need not be the same twice
        "workers": "2",
        "tile": "256",
        "overlap": "64",
    }
    with ExitStack() as stack:
        services, channels = [], []
        for name, batching in (("plain", {}), ("batched", {"batching__max_batch": "8"})):
            folder = tmp_path / name
            folder.mkdir()
            service = stack.enter_context(
                inference(s3, folder, bucket=bucket, **general, **batching)
            )
            wait_until_serving(service)
            services.append(service)
            channels.append(stack.enter_context(grpc.insecure_channel(service.target)))
        expected = [ask(channels[0], number) for number in range(CALLERS * EACH)]
        with ThreadPoolExecutor(CALLERS) as threads:
            found = list(threads.map(lambda n: ask(channels[1], n), range(CALLERS * EACH)))
        assert found == expected
        before, after = (sizes_of_runs(service) for service in services)
        assert after[0] < before[0]
        assert after[1] == before[1]
        stub = v2_rpc.GRPCInferenceServiceStub(channels[1])
        statistics = stub.ModelStatistics(v2.ModelStatisticsRequest(name=STUDENT)).model_stats[0]
        runs = {each.batch_size: each.compute_infer.count for each in statistics.batch_stats}
        assert statistics.execution_count == sum(runs.values()) == after[0]
        assert sum(size * count for size, count in runs.items()) == after[1]
        assert 1 < max(runs) <= 8
