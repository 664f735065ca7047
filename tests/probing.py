"""Asks a health server, as a probe does."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def asking(port: int) -> Iterator[Callable[[str], int]]:
    """Asks over one connection: to make one anew may take seconds on a busy machine."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        yield lambda name: int(
            stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status
        )


def status(port: int, name: str) -> int:
    with asking(port) as ask:
        return ask(name)


def becomes(port: int, wanted: dict[str, int], *, seconds: float = 30) -> None:
    """Waits until these services are so; a probe that got no answer is made again, as kubelet's."""
    deadline, found = time.monotonic() + seconds, None
    with asking(port) as ask:
        while found != wanted:
            assert time.monotonic() < deadline, found
            with suppress(grpc.RpcError):
                found = {name: ask(name) for name in wanted}
            time.sleep(0.05)


def stays(port: int, wanted: dict[str, int], *, seconds: float) -> None:
    """Looks for some time whether these services are so at each moment."""
    deadline = time.monotonic() + seconds
    with asking(port) as ask:
        while time.monotonic() < deadline:
            found = {name: ask(name) for name in wanted}
            assert found == wanted, found
            time.sleep(0.2)
