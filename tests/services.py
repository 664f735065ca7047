"""Starts jobs, registry and worker as real processes, as an operator would."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from free_ports import free_port
from histill.client import Client, ClientSettings
from histill.embedded.processes import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.core.settings import RedisSettings, S3Settings

KEY = "test-key"


def settings_of(s3: S3Settings, redis: RedisSettings) -> dict[str, str]:
    """The variables that every process needs."""
    return {
        "HISTILL_S3__ENDPOINT": s3.endpoint,
        "HISTILL_S3__ACCESS_KEY": s3.access_key,
        "HISTILL_S3__SECRET_KEY": s3.secret_key.get_secret_value(),
        "HISTILL_S3__TIMEOUT_S": "3",
        "HISTILL_REDIS__URL": redis.url.get_secret_value(),
        "HISTILL_REDIS__TIMEOUT_S": "2",
    }


@dataclass
class Service:
    """A running process of ours."""

    name: str
    port: int
    metrics_port: int
    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, *, ready: bool = True, seconds: float = 30.0) -> None:
        """Waits until its health says that it is ready, or no more."""
        deadline = time.monotonic() + seconds
        while serving(self.port) is not ready:
            if time.monotonic() > deadline:
                pytest.fail(f"{self.name} is not {ready=}:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def own_settings(name: str, folder: Path, *, port: int, metrics: int) -> dict[str, str]:
    """The variables that are a process's own."""
    holder = {"id": "test", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "role": "admin"}
    if name == "distill":
        return {"HISTILL_WORKER__METRICS_PORT": str(metrics), "HISTILL_WORKER__HEALTH_PORT": "-1"}
    return {
        "HISTILL_SERVER__HOST": "127.0.0.1",
        "HISTILL_SERVER__PORT": str(port),
        "HISTILL_SERVER__METRICS_PORT": str(metrics),
        "HISTILL_SERVER__HEALTH_PORT": "-1",
        "HISTILL_SERVER__DRAIN_S": "5",
        "HISTILL_AUDIT__FOLDER": str(folder / "audit"),
        "HISTILL_AUTH__API_KEYS": json.dumps([holder]),
    }


@contextmanager
def service(name: str, folder: Path, variables: dict[str, str]) -> Iterator[Service]:
    """A process that is killed at the end of the block, whatever happens in it."""
    port, metrics = free_port(), free_port()
    own = own_settings(name, folder, port=port, metrics=metrics)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    log = folder / f"{name}-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", f"histill.{name}"],
            env=clean | own | variables,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Service(name, port, metrics, process, log)
    finally:
        process.kill()
        process.wait()


def client_of(
    jobs: Service | None = None, registry: Service | None = None, *, key: str = KEY
) -> Client:
    """A client of some running services."""
    targets = {running.name: f"127.0.0.1:{running.port}" for running in (jobs, registry) if running}
    return Client(ClientSettings.model_validate({**targets, "api_key": key, "timeout_s": 20}))
