"""Processes listen on addresses of either kind."""

from __future__ import annotations

import asyncio
import os
import signal
import urllib.request
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from free_ports import free_port
from histill.core.settings import ServiceSettings
from histill.rpc.addresses import joined
from histill.rpc.server import ServiceDescription, serve


async def ready() -> None:
    """It always is."""


async def check(port: int) -> int:
    """Health, asked for over IPv6."""
    async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        return int((await stub.Check(request, timeout=20, wait_for_ready=True)).status)


def metrics(port: int) -> int:
    with urllib.request.urlopen(f"http://[::1]:{port}/metrics", timeout=20) as answer:
        return int(answer.status)


@pytest.mark.parametrize(
    ("host", "wanted"), [("10.0.0.1", "10.0.0.1:1"), ("::", "[::]:1"), ("db", "db:1")]
)
def test_ipv6_addresses_stand_in_brackets(host: str, wanted: str) -> None:
    """Their colons would else be taken for that of the port."""
    assert joined(host, 1) == wanted


async def test_a_server_of_all_ipv6_addresses_is_reached_by_one() -> None:
    """Calls, health and metrics: a pod of an IPv6-only cluster has no other addresses."""
    port, health, numbers = free_port(), free_port(), free_port()
    settings = ServiceSettings.model_validate(
        {
            "server": {
                "host": "::",
                "port": port,
                "metrics_port": numbers,
                "health_port": health,
                "drain_s": 1,
            }
        }
    )
    service = ServiceDescription("test", 1, 1, ("x.Y",), lambda _: None, ready)
    task = asyncio.create_task(serve(settings, service))
    try:
        assert await check(port)
        assert await check(health)
        assert await asyncio.to_thread(metrics, numbers) == 200
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(20):
            await task
    finally:
        task.cancel()
