"""Calls that send their headers and never their message hold nothing that others need."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from free_ports import free_port
from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as rpc
from histill.core.api_keys import digest
from histill.core.errors import DeadlineExceededError, InvalidArgumentError
from histill.core.service_settings import AuthSettings, LimitSettings
from histill.rpc.audit import Audit
from histill.rpc.audit_interceptor import AuditInterceptor
from histill.rpc.channel import bearer, channel
from histill.rpc.first_message import first_message
from histill.rpc.gate import Gate
from histill.rpc.health import HealthServer
from histill.rpc.health_checks import HealthChecks
from histill.rpc.interceptor import ServerInterceptor
from raw_http2 import raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

GET = "/histill.api.distillation.v1.DistillationService/GetJob"
CHECK = "/grpc.health.v1.Health/Check"
CODES = grpc.StatusCode
SERVING = health_pb2.HealthCheckResponse.SERVING


class Jobs(rpc.DistillationServiceServicer):
    """Answers at once."""

    async def GetJob(self, request: Any, context: Any) -> pb.GetJobResponse:  # noqa: N802
        del request, context
        return pb.GetJobResponse()


class Nowhere:
    """A trail that keeps nothing."""

    def append(self, fields: Mapping[str, object]) -> int:
        del fields
        return 1

    def full(self) -> bool:
        return False

    def held_bytes(self) -> int:
        return 0


@asynccontextmanager
async def served(**limits: Any) -> AsyncIterator[int]:
    """A server with both interceptors, as the services have them; yields its port."""
    key = {"id": "ada", "sha256": digest("right"), "role": "admin"}
    auth = AuthSettings.model_validate({"api_keys": [key]})
    bounds = LimitSettings.model_validate({"failures_per_minute": 0, **limits})
    untyped: Any = (Audit(Nowhere(), "drop", lambda: None), Jobs)  # type: ignore[arg-type,return-value]
    server = grpc.aio.server(
        interceptors=[
            AuditInterceptor(untyped[0]),
            ServerInterceptor(Gate(auth, None, bounds), bounds),
        ],
        maximum_concurrent_rpcs=bounds.concurrent_calls,
    )
    rpc.add_DistillationServiceServicer_to_server(untyped[1](), server)
    health_pb2_grpc.add_HealthServicer_to_server(HealthChecks(("",)), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@contextmanager
def headers_only(port: int, method: str, calls: int, *, key: str = "") -> Iterator[Any]:
    """A connection with calls whose message never comes."""
    with raw(port) as connection:
        fields = [
            *((":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x")),
            *(("te", "trailers"), ("content-type", "application/grpc"), *bearer(key)),
        ]
        for number in range(calls):
            connection.state.send_headers(2 * number + 1, fields)
        connection.send()
        connection.read(seconds=0.3)
        yield connection


async def get(port: int) -> grpc.StatusCode:
    async with channel(f"127.0.0.1:{port}") as opened:
        call = rpc.DistillationServiceStub(opened).GetJob(
            pb.GetJobRequest(), timeout=5, metadata=bearer("right")
        )
        code: grpc.StatusCode = await call.code()
        return code


async def beside(port: int, method: str, calls: int, *, key: str = "") -> grpc.StatusCode:
    """How a right call ends while others wait."""

    def both() -> grpc.StatusCode:
        with headers_only(port, method, calls, key=key):
            return asyncio.run_coroutine_threadsafe(get(port), loop).result(10)

    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(both)


async def test_strangers_without_a_message_take_no_place() -> None:
    """Twice as many calls as there are places, without credentials, are refused unread."""
    async with served(concurrent_calls=10) as port:
        assert await beside(port, GET, 20) is CODES.OK


async def test_strangers_that_ask_for_health_leave_places() -> None:
    """What needs no credentials has some of the places and not all."""
    async with served(concurrent_calls=10) as port:
        assert await beside(port, CHECK, 20) is CODES.OK


async def test_a_known_caller_has_so_long_to_send_the_message() -> None:
    """After it the place is free again, and the caller hears why."""
    async with served(concurrent_calls=2, message_s=0.2) as port:

        def wait() -> bytes:
            with headers_only(port, GET, 2, key="right") as connection:
                connection.read(seconds=0.5)
                return repr(connection.events).encode()

        said = await asyncio.to_thread(wait)
        assert said.count(b"did not come within 0.2 s") >= 2
        assert await get(port) is CODES.OK


async def test_a_call_without_a_message_is_refused() -> None:
    """A stream that ends before it began is no request."""

    async def none() -> AsyncIterator[int]:
        numbers: list[int] = []
        for each in numbers:
            yield each

    async def late() -> AsyncIterator[int]:
        await asyncio.sleep(0.2)
        yield 1

    with pytest.raises(InvalidArgumentError, match="request"):
        await first_message(none(), 1)
    with pytest.raises(DeadlineExceededError, match=r"0.01 s"):
        await first_message(late(), 0.01)
    assert await first_message(late(), 5) == 1


@pytest.mark.parametrize("calls", [8, 99])
async def test_checks_without_a_message_do_not_hold_up_a_probe(calls: int) -> None:
    """The health server answers while they wait, and lets them go soon."""
    port = free_port()
    health = HealthServer("127.0.0.1", port, (), 10)
    await health.start()
    health.tell(ready=True)
    beating = asyncio.create_task(health.run())

    def probe() -> tuple[int, float]:
        with headers_only(port, CHECK, calls), headers_only(port, CHECK, calls):
            started = time.monotonic()
            with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
                stub: Any = health_pb2_grpc.HealthStub(opened)
                found = stub.Check(health_pb2.HealthCheckRequest(service="liveness"), timeout=5)
            return int(found.status), time.monotonic() - started

    try:
        status, seconds = await asyncio.to_thread(probe)
    finally:
        beating.cancel()
        await asyncio.to_thread(health.stop)
    assert status == SERVING
    assert seconds < 1


async def test_a_watcher_that_does_not_read_holds_back_nobody() -> None:
    """Others hear of a change, and whoever tells it does not wait."""
    checks = HealthChecks(("",))
    request, context = health_pb2.HealthCheckRequest(), Any
    deaf, other = (aiter(checks.Watch(request, context)) for _ in range(2))  # type: ignore[arg-type]
    assert (await anext(deaf)).status == (await anext(other)).status
    checks.tell(("",), serving=True)
    assert (await anext(other)).status == SERVING
