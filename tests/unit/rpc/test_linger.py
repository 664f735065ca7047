"""A server that was told to stop serves on for a while, and says that it is not ready."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import ValidationError

from free_ports import free_port
from histill.core.service_settings import ServerSettings
from histill.core.settings import ServiceSettings
from histill.rpc.options import server_options
from histill.rpc.server import ServiceDescription, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def ready() -> None:
    """It always is."""


async def status(port: int) -> int:
    """Health over a new connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        return int((await stub.Check(request, timeout=5, wait_for_ready=True)).status)


async def becomes(port: int, wanted: int) -> None:
    async with asyncio.timeout(20):
        while await status(port) != wanted:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def serving(linger_s: float) -> AsyncIterator[tuple[asyncio.Task[None], int, int]]:
    """A ready server, its port and that of its health, and a log of what it drained."""
    port, health = free_port(), free_port()
    settings = ServiceSettings.model_validate(
        {
            "server": {
                "host": "127.0.0.1",
                "port": port,
                "metrics_port": -1,
                "health_port": health,
                "drain_s": 1,
                "linger_s": linger_s,
            }
        }
    )
    service = ServiceDescription("test", 1, 1, ("x.Y",), lambda _: None, ready)
    task = asyncio.create_task(serve(settings, service))
    try:
        await becomes(port, SERVING)
        await becomes(health, SERVING)
        yield task, port, health
        async with asyncio.timeout(20):
            await task
    finally:
        task.cancel()


def tell_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_whoever_has_not_heard_is_served() -> None:
    """New connections too, while both health services say that it is not ready."""
    async with serving(linger_s=3) as (task, port, health):
        begun = time.monotonic()
        tell_to_stop()
        await becomes(port, NOT_SERVING)
        await becomes(health, NOT_SERVING)
        while time.monotonic() < begun + 1.5:
            assert await status(port) == NOT_SERVING
        assert not task.done()
    assert time.monotonic() - begun >= 3


async def test_a_second_signal_ends_it() -> None:
    """Who is in a hurry need not wait."""
    async with serving(linger_s=1000):
        tell_to_stop()
        await asyncio.sleep(0.2)
        tell_to_stop()


async def test_by_default_there_is_none() -> None:
    """One signal stops the server."""
    async with serving(linger_s=0) as (task, _, _):
        tell_to_stop()
        async with asyncio.timeout(20):
            await task


@pytest.mark.parametrize(
    ("linger_s", "age_s", "lives_s"), [(0, 3600, 3600), (3, 3600, 1), (60, 3600, 20), (60, 5, 5)]
)
def test_no_connection_outlives_the_linger(linger_s: float, age_s: float, lives_s: float) -> None:
    """One that a client makes in its first half, not knowing yet, ends before it as well."""
    settings = ServerSettings.model_validate({"linger_s": linger_s, "connection": {"age_s": age_s}})
    assert dict(server_options(settings))["grpc.max_connection_age_ms"] == 1000 * lives_s


@pytest.mark.parametrize("linger_s", [0.1, 2.9])
def test_a_linger_too_short_for_connections_is_refused(linger_s: float) -> None:
    """They would last a moment, all the time; none at all is something else."""
    with pytest.raises(ValidationError, match="must be 0 or at least 3"):
        ServerSettings.model_validate({"linger_s": linger_s})
