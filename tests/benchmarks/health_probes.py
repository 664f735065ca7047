"""How fast health probes are answered while the inference service is as busy as it can be.

The real service computes large images of noise, whose GeoJSON holds Python's lock for long,
on all of its workers. Probes go to the main port and to the health server by turns, each on
a connection of its own, as an orchestrator makes them::

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/health_probes.py --seconds 60
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from rich.console import Console
from rich.table import Table

from conftest import end, run_s3
from free_ports import free_port
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from processes import HOST, running, s3_environment, wait_until_serving
from serving import bucket_of
from students import publish, student

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

AT_ONCE = 6
_EVERY_S = 0.05


def noise(side: int) -> bytes:
    """A PNG in which a student of dark pixels finds thousands of ragged objects."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def keep_busy(target: str, image: bytes, stop: Event, answers: Queue[int]) -> None:
    """Asks with several threads until told to stop; then says how many answers came."""
    request = pb.SegmentRequest(model="nuclei", encoded=image, format=pb.MASK_FORMAT_GEOJSON)
    with ThreadPoolExecutor(AT_ONCE) as askers:
        counts = askers.map(lambda _: ask(target, request, stop), range(AT_ONCE))
        answers.put(sum(counts))


def ask(target: str, request: pb.SegmentRequest, stop: Event) -> int:
    """Asks until told to stop; returns how many answers came."""
    answers = 0
    with grpc.insecure_channel(
        target, options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        stub = rpc.SegmentationServiceStub(channel)
        while not stop.is_set():
            try:
                stub.Segment(request, timeout=60)
                answers += 1
            except grpc.RpcError as exc:
                if not isinstance(exc, grpc.Call) or exc.code() not in {
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                }:
                    raise
                time.sleep(0.05)
    return answers


def probe(port: int) -> float:
    """Milliseconds of one probe, connection included; it must say SERVING."""
    started = time.perf_counter()
    # A pool of its own: else gRPC would share the connection of the probe before.
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"{HOST}:{port}", options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise SystemExit(f"port {port} says {answer.status}")
    return 1000 * (time.perf_counter() - started)


def measure(ports: dict[str, int], *, seconds: float) -> dict[str, list[float]]:
    """Probes every port by turns."""
    times: dict[str, list[float]] = {name: [] for name in ports}
    end_at = time.monotonic() + seconds
    while time.monotonic() < end_at:
        for name, port in ports.items():
            times[name].append(probe(port))
            time.sleep(_EVERY_S)
    return times


def main() -> None:
    """Starts the service, measures it idle and busy, and prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--module", default="histill.inference")
    arguments = parser.parse_args()
    table = Table(title="milliseconds of a probe")
    for column in ("port", "state", "probes", "p50", "p99", "worst"):
        table.add_column(column)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        s3 = run_s3(folder / "s3")
        bucket, store = bucket_of(s3)
        publish(store, student(), folder)
        port, health, metrics = free_port(), free_port(), free_port()
        environment = s3_environment(s3.settings, bucket=bucket) | {
            "HISTILL_AUTH__MODE": "none",
            "HISTILL_SERVER__HOST": HOST,
            "HISTILL_SERVER__PORT": str(port),
            "HISTILL_SERVER__HEALTH_PORT": str(health),
            "HISTILL_SERVER__METRICS_PORT": str(metrics),
            "HISTILL_INFERENCE__PRELOAD": '["nuclei"]',
        }
        ports = {"main": port, "health": health}
        with running(
            arguments.module, environment, port=port, metrics_port=metrics, folder=folder
        ) as service:
            wait_until_serving(service)
            idle = measure(ports, seconds=arguments.seconds / 6)
            # In a process of their own: they must not hold up the probes themselves.
            spawn = multiprocessing.get_context("spawn")
            stop, answers = spawn.Event(), spawn.Queue()
            image = noise(arguments.side)
            asking = spawn.Process(target=keep_busy, args=(service.target, image, stop, answers))
            asking.start()
            time.sleep(5)
            busy = measure(ports, seconds=arguments.seconds)
            stop.set()
            answered = answers.get()
            asking.join()
        end(s3.server)
    for state, times in (("idle", idle), ("busy", busy)):
        for which, values in times.items():
            found = [np.percentile(values, 50), np.percentile(values, 99), max(values)]
            table.add_row(which, state, str(len(values)), *(f"{v:.1f}" for v in found))
    console = Console()
    console.print(table)
    console.print(f"{answered} images of {arguments.side} pixels a side were answered")


if __name__ == "__main__":
    main()
