"""Versions that follow each other behind an alias, in a budget that holds one of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import grpc

from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.core import catalog
from histill.core.names import parse_reference
from processes import wait_until_serving
from serving import bucket_of, inference, keep_asking
from students import manifest, publish, student

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3
    from histill.adapters.s3 import S3ObjectStore

BALLAST = 700_000
BUDGET = str(1 << 20)
ROUNDS = 4


def point(store: S3ObjectStore, version: int) -> None:
    reference = parse_reference(f"moving@{version}", field="")
    catalog.set_alias(store, reference, "stable")


def test_swaps_within_a_budget_fail_no_request(s3: S3, tmp_path: Path) -> None:
    """An alias goes to and fro under load; each version is let go for the other, unnoticed."""
    bucket, store = bucket_of(s3)
    like = manifest(student(), name="moving")
    for dark_is in (1, 0):
        publish(store, student(dark_is=dark_is, ballast=BALLAST), tmp_path, like=like)
    point(store, 1)
    raw = pb.RawImage(data=bytes(16 * 16 * 3), height=16, width=16, channels=3)
    request = pb.SegmentRequest(model="moving@stable", raw=raw, format=pb.MASK_FORMAT_RAW)
    expected = {"moving@1": b"\x01" * 256, "moving@2": b"\x00" * 256}
    stop = threading.Event()
    with inference(s3, tmp_path, bucket=bucket, cache_bytes=BUDGET, max_queue="8") as service:
        wait_until_serving(service)

        with ThreadPoolExecutor(3) as threads:
            asking = [
                threads.submit(keep_asking, service, request, expected, stop) for _ in range(3)
            ]
            for turn in range(ROUNDS):
                time.sleep(1)
                point(store, 2 - turn % 2)
            time.sleep(1)
            stop.set()
            answers = [each.result() for each in asking]
        log = service.log.read_text()
    for seen in answers:
        changes = sum(a != b for a, b in pairwise(seen))
        # A request that began before the alias moved may end after one that began later.
        assert changes >= ROUNDS
        assert min(Counter(seen).values()) > 10
    assert log.count('"model_let_go"') >= ROUNDS


def test_an_unloaded_model_loads_again_on_demand(s3: S3, tmp_path: Path) -> None:
    """Unloading it while others ask fails none of them."""
    bucket, store = bucket_of(s3)
    publish(store, student(), tmp_path)
    image = pb.RawImage(data=bytes(16 * 16 * 3), height=16, width=16, channels=3)
    request = pb.SegmentRequest(model="nuclei", raw=image)
    stop = threading.Event()
    with inference(s3, tmp_path, bucket=bucket) as service:
        wait_until_serving(service)
        with grpc.insecure_channel(service.target) as channel, ThreadPoolExecutor(2) as threads:
            stub = rpc.SegmentationServiceStub(channel)
            management = v2_rpc.GRPCInferenceServiceStub(channel)

            def ask() -> int:
                answered = 0
                while not stop.is_set():
                    assert stub.Segment(request, timeout=30).summary.model == "nuclei@1"
                    answered += 1
                return answered

            stub.Segment(request, timeout=30)
            asking = [threads.submit(ask) for _ in range(2)]
            unload = v2.RepositoryModelUnloadRequest(model_name="nuclei")
            try:
                for _ in range(3):
                    stub.Segment(request, timeout=30)  # loaded again by now
                    management.RepositoryModelUnload(unload, timeout=10)
                stub.Segment(request, timeout=30)
            finally:
                stop.set()
            assert min(each.result() for each in asking) > 3
        assert service.log.read_text().count('"model_loaded"') >= 4
