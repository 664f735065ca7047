"""The servers that are held against each other, each a process in its own environment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from free_ports import free_port
from serving import bucket_of, inference
from serving_load import Client, request_of
from serving_models import NULL, STUDENT, as_student

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conftest import S3

HERE = Path(__file__).parent / "peers"
PEERS = {"pytriton": "nvidia-pytriton==0.7.0", "mlserver": "mlserver==1.7.1"}
# MLServer's workers ask for an event loop that newer ones do not make by themselves.
_BESIDES = {"pytriton": (), "mlserver": ("uvloop<0.22",)}
_STARTS_S = 90


@dataclass(frozen=True)
class Target:
    """A server that answers ModelInfer for ``student`` and ``null``.

    Attributes:
        name: In tables.
        port: Of gRPC.
        pid: Of its first process.
    """

    name: str
    port: int
    pid: int

    @property
    def address(self) -> str:
        """For gRPC."""
        return f"127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """Processor time of it and all below it, since it started (Linux)."""
        ticks = os.sysconf("SC_CLK_TCK")
        return sum(sum(_stat(pid)[1:]) for pid in _family(self.pid)) / ticks

    def memory_bytes(self) -> int:
        """Resident memory of it and all below it (Linux)."""
        pages = 0
        for pid in _family(self.pid):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def _stat(pid: int) -> tuple[int, int, int]:
    """Parent, and ticks in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1]), int(fields[11]), int(fields[12])


def _family(pid: int) -> list[int]:
    found, parents = [pid], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = _stat(int(entry.name))[0]
            except OSError:  # it has ended
                continue
    for one in found:
        found.extend(child for child, parent in parents.items() if parent == one)
    return found


@contextmanager
def ours(
    s3: S3,
    folder: Path,
    name: str = "histill",
    *,
    models: Sequence[str] = (STUDENT, NULL),
    besides: Sequence[str] = (),
    **settings: str,
) -> Iterator[Target]:
    """The inference service with its models loaded, and others that it may load."""
    bucket, store = bucket_of(s3)
    for model in (*models, *besides):
        as_student(store, folder / f"{model}.onnx", name=model)
    preload = json.dumps(models)
    with inference(s3, folder, bucket=bucket, preload=preload, **settings) as it:
        target = Target(name, it.port, it.process.pid)
        _wait(target, models)
        yield target


@contextmanager
def floor(folder: Path) -> Iterator[Target]:
    """The least that answers, in our own environment."""
    command = [sys.executable, str(HERE / "floor.py")]
    with _running("floor", [*command, "PORT", *_files(folder)], folder) as target:
        yield target


@contextmanager
def pytriton(python: Path, folder: Path) -> Iterator[Target]:
    """Triton's server with Python backends."""
    command = [str(python), str(HERE / "pytriton_server.py"), "PORT", *_files(folder)]
    with _running("pytriton", command, folder) as target:
        yield target


@contextmanager
def mlserver(python: Path, folder: Path) -> Iterator[Target]:
    """Seldon's server, its models in processes of their own."""
    home = folder / "mlserver"
    port = free_port()
    for name, path in zip((STUDENT, NULL), _files(folder), strict=True):
        (home / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "mlserver_model.py", home / name)
        settings = {
            "name": name,
            "implementation": "mlserver_model.Student",
            "parameters": {"uri": path},
        }
        (home / name / "model-settings.json").write_text(json.dumps(settings))
    general = {
        "grpc_port": port,
        "http_port": free_port(),
        "metrics_port": free_port(),
        "host": "127.0.0.1",
        "parallel_workers": 2,
        "debug": False,
        "grpc_max_message_length": 64 << 20,
    }
    (home / "settings.json").write_text(json.dumps(general))
    command = [str(python.with_name("mlserver")), "start", str(home)]
    with _running("mlserver", command, folder, port=port) as target:
        yield target


def environment(name: str, folder: Path) -> Path:
    """Python of a virtual environment with a peer in it, made at the first call.

    PyTriton embeds Debian's Python 3.11; with another patch release of it the standard
    library does not fit.
    """
    python = folder / f"{name}-environment" / "bin" / "python"
    if not python.exists():
        system = Path("/usr/bin/python3.11")
        base = str(system) if name == "pytriton" and system.exists() else sys.executable
        subprocess.run([base, "-m", "venv", str(python.parents[1])], check=True)
        pip = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            PEERS[name],
            "onnxruntime",
            *_BESIDES[name],
        ]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    return python


def _files(folder: Path) -> tuple[str, str]:
    return str(folder / f"{STUDENT}.onnx"), str(folder / f"{NULL}.onnx")


@contextmanager
def _running(name: str, command: Sequence[str], folder: Path, *, port: int = 0) -> Iterator[Target]:
    port = port or free_port()
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(port) if part == "PORT" else part for part in command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, OMP_NUM_THREADS="1"),
            start_new_session=True,
        )
    try:
        target = Target(name, port, process.pid)
        _wait(target)
        yield target
    finally:
        for pid in reversed(_family(process.pid)):  # PyTriton's server outlives its parent
            os.kill(pid, signal.SIGKILL)
        process.wait()


def _wait(target: Target, models: Sequence[str] = (STUDENT, NULL)) -> None:
    """Until all models answer."""
    deadline = time.monotonic() + _STARTS_S
    with Client(target.address) as client:
        for model in models:
            while True:
                try:
                    client.infer(request_of(model, 64))
                    break
                except grpc.RpcError as exc:
                    if time.monotonic() > deadline:
                        raise SystemExit(f"{target.name} does not answer: {exc}") from exc
                    time.sleep(0.2)
