"""Real servers and real images for every tier, each started at its first use."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

# Before gRPC is imported: with it, children that are forked beside its threads now and then abort.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from free_ports import free_port
from histill.core.settings import RedisSettings, S3Settings
from histill.embedded.servers import start_s3, start_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.embedded.servers import ServerProcess

HOST = "127.0.0.1"
# As the processes do; structlog's own draws every variable of every frame, which takes long.
structlog.configure(
    processors=[structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
)


def wait_for_port(port: int, *, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"nothing listens on {port} after {seconds} s")


@dataclass
class Valkey:
    """A running Valkey server, and how to reach it."""

    settings: RedisSettings
    server: ServerProcess


@dataclass
class S3:
    """A running S3 server, and how to reach it."""

    settings: S3Settings
    server: ServerProcess
    folder: Path


def run_valkey(folder: Path) -> Valkey:
    port = free_port()
    server = start_valkey(folder, port=port, password="test-password", unsafe_no_save=True)
    wait_for_port(port)
    url = f"redis://:test-password@{HOST}:{port}/0"
    return Valkey(RedisSettings.model_validate({"url": url, "timeout_s": 2}), server)


def run_s3(folder: Path, *, port: int = 0) -> S3:
    port = port or free_port()
    server = start_s3(folder, port=port, access_key="test-access", secret_key="test-secret-key")
    wait_for_port(port)
    settings = S3Settings.model_validate(
        {
            "endpoint": f"{HOST}:{port}",
            "access_key": "test-access",
            "secret_key": "test-secret-key",
            "timeout_s": 5,
        }
    )
    return S3(settings, server, folder)


def end(server: ServerProcess) -> None:
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A real Valkey server for the session; tests use keys of their own."""
    running = run_valkey(tmp_path_factory.mktemp("valkey"))
    yield running
    end(running.server)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server for the session; tests use buckets of their own."""
    running = run_s3(tmp_path_factory.mktemp("s3"))
    yield running
    end(running.server)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real images; tests that need it are skipped where there is none."""
    root = Path(__file__).parents[1]
    found = Path(os.environ.get("HISTILL_DATA") or root.parent / "shared" / "data")
    if not (found / "nuclei-he").is_dir():
        pytest.skip(f"real images are not at {found}; set HISTILL_DATA to their folder")
    return found
