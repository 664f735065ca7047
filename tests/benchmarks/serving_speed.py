"""The inference service against the bare runtime, a floor, and other servers.

All servers answer the same bytes for the same two models on the same machine: a student
of half a million parameters on images of 256 x 256 pixels, and one that computes nothing
on images of 512 x 512 (786 KB a request). Bursts go round by turns, so that noise hits
all alike; every model computes on one thread, two requests at a time.

Writes ``build/benchmarks/serving.json`` and ``.png`` and prints tables, ratios first::

    make bench-serving
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from conftest import end, run_s3
from histill.inference.onnx_runtime import OnnxRuntime
from histill.inference.openvino_runtime import OpenVinoRuntime
from serving_figure import draw
from serving_load import Client, Taken, burst, flood, noise, request_of, segment_of
from serving_models import LARGE, NETWORK, NULL, STUDENT, write_models
from serving_targets import PEERS, environment, floor, mlserver, ours, pytriton

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from conftest import S3
    from histill.inference.runtime import Precision, Runtime
    from serving_targets import Target

OUT = Path(__file__).parents[2] / "build" / "benchmarks"
SIDE, NULL_SIDE, SMALL_SIDE = 256, 512, 64
WORKERS, AT_ONCE = 2, 8
_START = {"pytriton": pytriton, "mlserver": mlserver}
console = Console()


class Subject:
    """Something that answers requests, measured one at a time and several at a time.

    Args:
        send: One request, and its answer.
        cpu_seconds: Processor time that it has used.
    """

    def __init__(self, send: Callable[[], object], cpu_seconds: Callable[[], float]) -> None:
        self.send, self.cpu_seconds = send, cpu_seconds
        self.alone, self.together = Taken(), Taken()

    def summary(self) -> dict[str, float]:
        """Milliseconds, requests a second, and processor milliseconds a request."""
        return {
            "p50_ms": 1000 * self.alone.quantile(0.5),
            "p99_ms": 1000 * self.alone.quantile(0.99),
            "cpu_ms": self.alone.cpu_ms,
            "throughput": self.together.throughput,
            "cpu_ms_together": self.together.cpu_ms,
        }


def bare(folder: Path) -> dict[str, Subject]:
    """The student without a server, in each runtime and precision."""
    data = (folder / f"{STUDENT}.onnx").read_bytes()
    stride = NETWORK.stride
    found: dict[str, Runtime] = {
        "bare onnxruntime": OnnxRuntime.load(
            data, reference=STUDENT, channels=3, threads=1, device="cpu"
        )
    }
    precisions: tuple[Precision, ...] = ("f32", "bf16", "int8")
    eight = (folder / f"{STUDENT}.int8.onnx").read_bytes()
    for precision in precisions:
        found[f"bare openvino {precision}"] = OpenVinoRuntime.load(
            eight if precision == "int8" else data,
            reference=STUDENT,
            stride=stride,
            threads=1,
            workers=WORKERS,
            precision=precision,
        )
    images = noise(SIDE)[None]
    return {
        name: Subject(partial(runtime.run, ["mask"], images), time.process_time)
        for name, runtime in found.items()
    }


def measure(subjects: dict[str, Subject], *, rounds: int, requests: int) -> None:
    """Bursts by turns: first one request at a time, then several."""
    for subject in subjects.values():
        for _ in range(3):
            subject.send()
    for _ in range(rounds):
        for subject in subjects.values():
            burst(
                subject.send,
                requests=requests,
                at_once=1,
                cpu_seconds=subject.cpu_seconds,
                into=subject.alone,
            )
    for _ in range(rounds):
        for name, subject in subjects.items():
            burst(
                subject.send,
                requests=2 * requests,
                # More threads than cores would only take turns in a bare runtime.
                at_once=WORKERS if name.startswith("bare") else AT_ONCE,
                cpu_seconds=subject.cpu_seconds,
                into=subject.together,
            )


def overload(s3: S3, folder: Path) -> dict[str, float]:
    """Four times what the service can take, with its default queue."""
    request = request_of(STUDENT, SIDE)
    # With a faster one, four times as many are more than client and server carry on two cores.
    settings = {"workers": str(WORKERS), "runtime": "onnxruntime"}
    with ours(s3, folder, **settings) as target, Client(target.address) as client:
        alone, together = Taken(), Taken()
        common: dict[str, Any] = {"cpu_seconds": target.cpu_seconds}
        burst(lambda: client.infer(request), requests=200, at_once=1, into=alone, **common)
        burst(lambda: client.infer(request), requests=200, at_once=WORKERS, into=together, **common)
        rate = 4 * together.throughput
        found = flood(target.address, request, a_second=rate, seconds=10)
    accepted, refused = Taken(found.accepted), Taken(found.refused)
    return {
        "capacity": together.throughput,
        "sent_a_second": rate,
        "accepted": len(found.accepted),
        "refused": len(found.refused),
        "failed_otherwise": len(found.others),
        "told_when_to_come_back": found.hinted,
        "p99_uncongested_ms": 1000 * alone.quantile(0.99),
        "p99_accepted_ms": 1000 * accepted.quantile(0.99),
        "p99_ratio": accepted.quantile(0.99) / alone.quantile(0.99),
        "refused_p50_ms": 1000 * refused.quantile(0.5) if found.refused else float("nan"),
    }


def memory(s3: S3, folder: Path, requests: int) -> dict[str, float]:
    """Of one process with one student: idle, and after many requests."""
    request = request_of(STUDENT, SMALL_SIDE)
    settings = {"workers": str(WORKERS), "max_queue": "16"}
    started = ours(s3, folder, models=(STUDENT,), besides=(LARGE,), **settings)
    with started as target, Client(target.address) as client:
        idle, taken = target.memory_bytes(), Taken()
        common: dict[str, Any] = {"at_once": AT_ONCE, "cpu_seconds": target.cpu_seconds}
        burst(lambda: client.infer(request), requests=2000, into=taken, **common)
        warm = target.memory_bytes()
        burst(lambda: client.infer(request), requests=requests, into=taken, **common)
        after = target.memory_bytes()
        client.load(LARGE)
        for _ in range(20):
            client.infer(request_of(LARGE, SIDE))
        loaded = target.memory_bytes()
        client.unload(LARGE)
        time.sleep(3)  # it is given back a second later
        unloaded = target.memory_bytes()
    return {
        "idle_mb": idle / 1e6,
        "after_2000_requests_mb": warm / 1e6,
        "requests": requests,
        "after_all_mb": after / 1e6,
        "growth_mb": (after - warm) / 1e6,
        "with_a_large_model_mb": loaded / 1e6,
        "after_unloading_it_mb": unloaded / 1e6,
    }


def ratios(student: dict[str, Any], null: dict[str, Any], same: dict[str, Any]) -> dict[str, Any]:
    """What the service costs over what it cannot do without, and over its peers."""
    runtime, served = student["bare onnxruntime"], student["histill"]
    peers = [name for name in PEERS if name in null]
    return {
        "null_p50_over_floor": null["histill"]["p50_ms"] / null["floor"]["p50_ms"],
        "student_p50_over_bare_and_null": served["p50_ms"]
        / (runtime["p50_ms"] + same["histill"]["p50_ms"]),
        "cpu_efficiency_together": runtime["cpu_ms_together"] / served["cpu_ms_together"],
        "floor_cpu_efficiency_together": runtime["cpu_ms_together"]
        / student["floor"]["cpu_ms_together"],
    } | {
        f"{peer}_{what}_over_ours": rows[peer][key] / rows["histill"][key]
        for peer in peers
        for what, rows, key in (
            ("null_p50", null, "p50_ms"),
            ("student_p50", student, "p50_ms"),
            ("student_cpu", student, "cpu_ms_together"),
        )
    }


def table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    """A row a subject."""
    made = Table(title=title)
    columns = {
        "p50_ms": "p50 ms",
        "p99_ms": "p99 ms",
        "cpu_ms": "CPU ms",
        "throughput": f"a second, {AT_ONCE} at once",
        "cpu_ms_together": "CPU ms, at once",
    }
    for column in ("", *columns.values()):
        made.add_column(column, justify="right" if column else "left")
    for name, row in rows.items():
        made.add_row(name, *(f"{row[key]:.2f}" for key in columns))
    return made


def compare(s3: S3, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """All servers at once on one machine, asked by turns."""
    tables: dict[str, dict[str, Subject]] = {"student": bare(folder), "null": {}, "null_256": {}}
    with ExitStack() as stack:
        queue = {"workers": str(WORKERS), "max_queue": "16"}
        targets: list[Target] = [
            stack.enter_context(floor(folder)),
            stack.enter_context(ours(s3, folder, runtime="onnxruntime", **queue)),
        ]
        fastest = stack.enter_context(ours(s3, folder, "histill, fastest runtime", **queue))
        for name in given.peers:
            python = environment(name, given.out.resolve())
            targets += [stack.enter_context(_START[name](python, folder))]
        clients = {t.name: stack.enter_context(Client(t.address)) for t in [*targets, fastest]}

        def add(group: str, target: Target, request: bytes, *, name: str = "") -> None:
            client = clients[target.name]
            send = client.segment if name else client.infer
            tables[group][name or target.name] = Subject(lambda: send(request), target.cpu_seconds)

        for target in targets:
            add("student", target, request_of(STUDENT, SIDE))
            add("null", target, request_of(NULL, NULL_SIDE))
            add("null_256", target, request_of(NULL, SIDE))
        add("student", targets[1], segment_of(STUDENT, SIDE), name="histill, Segment of a PNG")
        add("student", fastest, request_of(STUDENT, SIDE))
        for group in tables.values():
            measure(group, rounds=given.rounds, requests=given.requests)
    return {
        group: {name: subject.summary() for name, subject in subjects.items()}
        for group, subjects in tables.items()
    }


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, help="bursts of each (12)")
    parser.add_argument("--requests", type=int, default=25, help="of a burst (25)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), help="which (all)")
    parser.add_argument("--growth", type=int, default=50_000, help="requests for memory (50000)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (build/benchmarks)")
    return parser.parse_args(words)


def main() -> None:
    """Measures and reports."""
    given = arguments()
    began = time.monotonic()
    folder = given.out.resolve() / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    parameters = write_models(folder)
    s3 = run_s3(folder / "s3")
    try:
        report = compare(s3, folder, given)
        report["ratios"] = ratios(report["student"], report["null"], report["null_256"])
        report["overload"] = overload(s3, folder)
        report["memory"] = memory(s3, folder, given.growth)
    finally:
        end(s3.server)
    report["circumstances"] = {
        "student_parameters": parameters,
        "bursts": given.rounds,
        "requests_a_burst": given.requests,
        "workers": WORKERS,
        "cores": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "seconds": time.monotonic() - began,
        "versions": {n: version(n) for n in ("grpcio", "onnxruntime", "openvino")} | PEERS,
    }
    console.print({k: round(v, 3) for k, v in report["ratios"].items()})
    for group, side in (("student", SIDE), ("null", NULL_SIDE), ("null_256", SIDE)):
        console.print(table(f"{group}, {side} x {side}", report[group]))
    for part in ("overload", "memory"):
        console.print(part, {k: round(v, 3) for k, v in report[part].items()})
    (given.out / "serving.json").write_text(json.dumps(report, indent=1))
    draw(report, given.out / "serving.png")
    console.print(f"{report['circumstances']['seconds']:.0f} s; {given.out / 'serving.json'}")


if __name__ == "__main__":
    main()
