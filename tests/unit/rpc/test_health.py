"""A server's health is what its readiness check says, from the first moment on."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from free_ports import free_port
from histill.core.errors import UnavailableError
from histill.core.settings import ServiceSettings
from histill.rpc import measures, server
from histill.rpc.server import ServiceDescription, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def description(ready: Callable[[], Awaitable[None]]) -> tuple[ServiceSettings, ServiceDescription]:
    settings = ServiceSettings.model_validate(
        {
            "server": {
                "host": "127.0.0.1",
                "port": free_port(),
                "metrics_port": -1,
                "health_port": -1,
                "drain_s": 1,
            }
        }
    )
    return settings, ServiceDescription("test", 1, 1, ("x.Y",), lambda _: None, ready)


async def status(settings: ServiceSettings, name: str = "") -> int:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=name)
        return int((await stub.Check(request, timeout=5, wait_for_ready=True)).status)


async def becomes(settings: ServiceSettings, wanted: int) -> None:
    async with asyncio.timeout(10):
        while await status(settings) != wanted:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)


async def stop(serving: asyncio.Task[None]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await serving


async def test_nothing_is_served_before_the_first_check_has_succeeded() -> None:
    """While the first check runs, neither the server nor its service is SERVING."""
    checked = asyncio.Event()
    settings, service = description(lambda: _returned(checked.wait()))
    serving = asyncio.create_task(serve(settings, service))
    assert [await status(settings), await status(settings, "x.Y")] == [NOT_SERVING] * 2
    checked.set()
    await becomes(settings, SERVING)
    await stop(serving)


async def test_health_outlives_a_check_that_crashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in the check means not ready, and the next check is made all the same."""
    monkeypatch.setattr(server, "READY_EVERY_S", 0.05)
    answers: list[Exception | None] = [None, ValueError("a bug"), UnavailableError("away"), None]
    seen: list[Exception | None] = []

    async def ready() -> None:
        answer = answers[min(len(seen), len(answers) - 1)]
        seen.append(answer)
        if answer:
            raise answer

    settings, service = description(ready)
    serving = asyncio.create_task(serve(settings, service))
    async with asyncio.timeout(10):
        while len(seen) <= len(answers):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.02)
    await becomes(settings, SERVING)
    await stop(serving)


async def test_readiness_is_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 from the start, as long as no check has succeeded, and when the server stops."""
    monkeypatch.setattr(server, "READY_EVERY_S", 0.05)

    def told() -> float | None:
        return REGISTRY.get_sample_value("histill_ready", {"process": "test"})

    async def tells(wanted: float) -> None:
        async with asyncio.timeout(10):
            while told() != wanted:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)

    checked, away = asyncio.Event(), False
    before: list[float | None] = []

    async def ready() -> None:
        before.append(told())
        await checked.wait()
        if away:
            raise UnavailableError("away")

    measures.READY.clear()
    settings, service = description(ready)
    serving = asyncio.create_task(serve(settings, service))
    await tells(0)
    checked.set()
    await tells(1)
    assert before[0] == 0
    away = True
    await tells(0)
    away = False
    await tells(1)
    await stop(serving)
    assert told() == 0


async def test_health_can_be_watched() -> None:
    """The stream tells the present state at once, and each change."""
    checked = asyncio.Event()
    settings, service = description(lambda: _returned(checked.wait()))
    serving = asyncio.create_task(serve(settings, service))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.server.port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        stream = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10, wait_for_ready=True)
        assert (await stream.read()).status == NOT_SERVING
        checked.set()
        assert (await stream.read()).status == SERVING
    await stop(serving)


async def _returned(wait: Awaitable[object]) -> None:
    await wait
