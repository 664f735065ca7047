"""What HEALTHCHECK runs in an image, against servers that tell their health."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from conftest import HOST
from deploy.render import ROOT
from free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def asked(*arguments: str, port: int | None = None) -> int:
    """Its exit code; with a port, that is what the variable says."""
    command = [sys.executable, str(ROOT / "deploy" / "docker" / "healthcheck.py"), *arguments]
    environment = {} if port is None else {"PORT_OF_TEST": str(port)}
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


@pytest.fixture
def told() -> Iterator[tuple[int, health.HealthServicer]]:
    """A gRPC server's port, and what it says of its health."""
    servicer = health.HealthServicer()
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    yield port, servicer
    server.stop(None).wait()


def test_a_service_is_healthy_while_it_says_so(told: tuple[int, health.HealthServicer]) -> None:
    """0 while it serves, 1 when it does not."""
    port, servicer = told
    servicer.set("", SERVING)
    assert asked("grpc", "PORT_OF_TEST", str(port)) == 0
    servicer.set("", NOT_SERVING)
    assert asked("grpc", "PORT_OF_TEST", str(port)) == 1


def test_a_port_that_was_moved_is_asked(told: tuple[int, health.HealthServicer]) -> None:
    """The setting goes before the default, and 0 means the default."""
    port, servicer = told
    servicer.set("", SERVING)
    assert asked("grpc", "PORT_OF_TEST", str(free_port()), port=port) == 0
    assert asked("grpc", "PORT_OF_TEST", str(port), port=0) == 0


def test_nobody_there_is_not_healthy() -> None:
    """Over gRPC and HTTP alike; but a port that was switched off cannot say anything."""
    port = str(free_port())
    assert asked("grpc", "PORT_OF_TEST", port) == 1
    assert asked("http", "PORT_OF_TEST", port, "/healthz") == 1
    assert asked("grpc", "PORT_OF_TEST", port, port=-1) == 0


class Page(BaseHTTPRequestHandler):
    """Has one page."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_a_page_is_healthy_when_it_answers_with_success() -> None:
    """Another answer is none."""
    with HTTPServer((HOST, 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_address[1])
        assert asked("http", "PORT_OF_TEST", port, "/healthz") == 0
        assert asked("http", "PORT_OF_TEST", port, "/elsewhere") == 1
        server.shutdown()
