"""Our services as real processes, for integration tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from histill.embedded.processes import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.core.settings import S3Settings

HOST = "127.0.0.1"


@dataclass
class Service:
    """A running process.

    Attributes:
        port: It listens there.
        metrics_port: It tells its metrics there.
        process: To signal it.
        log: File of its standard error.
    """

    port: int
    metrics_port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def target(self) -> str:
        return f"{HOST}:{self.port}"

    def peak_memory_bytes(self) -> int:
        """Most memory that it ever held (Linux: VmHWM)."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:  # noqa: PTH123
            line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


def s3_environment(settings: S3Settings, *, bucket: str) -> dict[str, str]:
    return {
        "HISTILL_S3__ENDPOINT": settings.endpoint,
        "HISTILL_S3__ACCESS_KEY": settings.access_key,
        "HISTILL_S3__SECRET_KEY": settings.secret_key.get_secret_value(),
        "HISTILL_S3__BUCKET": bucket,
    }


@contextmanager
def running(
    module: str, environment: dict[str, str], *, port: int, metrics_port: int, folder: Path
) -> Iterator[Service]:
    """A process of ``python -m module``, ended with SIGTERM, which must succeed."""
    log = folder / f"{module}.{port}.log"
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=kept | environment,
        )
    try:
        yield Service(port, metrics_port, process, log)
    finally:
        process.terminate()
        try:
            code: int | None = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
    assert code == 0, f"{module} ended with {code}:\n{log.read_text()}"


def wait_until_serving(service: Service, *, expected: bool = True, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if service.process.poll() is not None:
            pytest.fail(f"ended by itself:\n{service.log.read_text()}")
        if serving(service.port) is expected:
            return
        time.sleep(0.05)
    pytest.fail(
        f"not {'ready' if expected else 'unready'} in {seconds} s:\n{service.log.read_text()}"
    )


def wait_for_words(service: Service, words: str, *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while words not in service.log.read_text():
        if time.monotonic() > deadline:
            pytest.fail(f"{words!r} is not in the log:\n{service.log.read_text()}")
        time.sleep(0.05)
