"""What happens around a call, on a real server in this process."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as rpc
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.registry.v1 import registry_service_pb2_grpc as registry_rpc
from histill.client.jobs import Jobs
from histill.core.access import AccessKey
from histill.core.api_keys import digest, new_secret
from histill.core.errors import (
    HistillError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from histill.core.service_settings import AuthSettings
from histill.rpc.channel import bearer, channel, sync_channel
from histill.rpc.gate import Gate
from histill.rpc.interceptor import ServerInterceptor, given_up
from histill.rpc.statuses import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVICE = "histill.api.distillation.v1.DistillationService"
REQUEST = "0af7651916cd43dd8448eb211c80319c"
NOW = datetime(2026, 1, 10, tzinfo=UTC)
ASKED: list[str] = []  # names, as often as they were asked


class Scripted(rpc.DistillationServiceServicer):
    """Raises or answers as the requested name says."""

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: N802
        del context
        ASKED.append(request.name)
        match request.name:
            case "missing":
                raise NotFoundError("jobs/x does not exist")
            case "wrong":
                raise InvalidArgumentError.of("name", "is wrong")
            case "busy":
                raise ResourceExhaustedError("busy", retry_after_s=0.25)
            case "full":
                raise ResourceExhaustedError("too large")
            case "bug":
                raise ValueError("/secret/path")
            case "slow":
                await asyncio.sleep(60)
        return pb.GetJobResponse()

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[pb.WatchJobResponse]:  # noqa: N802
        del context
        yield pb.WatchJobResponse()
        if request.name == "missing":
            raise NotFoundError("gone in between")
        if request.name == "slow":
            await asyncio.sleep(60)


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """Address of a server with the interceptor, open to everyone."""
    server = grpc.aio.server(interceptors=[ServerInterceptor(Gate(AuthSettings(mode="none")))])
    scripted: Any = Scripted
    rpc.add_DistillationServiceServicer_to_server(scripted(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def call(target: str, name: str, **options: Any) -> Any:
    async with channel(target) as opened:
        return await rpc.DistillationServiceStub(opened).GetJob(
            pb.GetJobRequest(name=name), **options
        )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("missing", grpc.StatusCode.NOT_FOUND),
        ("wrong", grpc.StatusCode.INVALID_ARGUMENT),
        ("busy", grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_our_errors_become_statuses(target: str, name: str, code: grpc.StatusCode) -> None:
    """What a handler raises reaches the caller with its code."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(target, name)
    assert caught.value.code() is code


async def test_a_bug_tells_the_caller_nothing_but_where_to_look(target: str) -> None:
    """An unexpected error is INTERNAL with the request id, without path or traceback."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(target, "bug", metadata=(("x-request-id", REQUEST),))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert REQUEST in (caught.value.details() or "")
    assert "secret" not in (caught.value.details() or "")


async def test_an_error_in_a_stream_follows_what_was_sent(target: str) -> None:
    """Messages before the error arrive."""
    async with channel(target) as opened:
        stream = rpc.DistillationServiceStub(opened).WatchJob(pb.WatchJobRequest(name="missing"))
        assert await stream.read() == pb.WatchJobResponse()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_request_id_comes_back(target: str) -> None:
    """A caller's id is echoed, so that its log and ours can be joined."""
    async with channel(target) as opened:
        made = rpc.DistillationServiceStub(opened).GetJob(
            pb.GetJobRequest(name="ok"), metadata=(("x-request-id", REQUEST),)
        )
        await made
        assert ("x-request-id", REQUEST) in [tuple(pair) for pair in await made.trailing_metadata()]


@pytest.mark.parametrize("given", ["smith-john", "r-1", "1950", "a" * 37, "Smith^John"])
async def test_an_id_that_may_be_a_name_is_replaced(target: str, given: str) -> None:
    """Only a UUID or hexadecimal digits come back and stand in logs."""
    async with channel(target) as opened:
        made = rpc.DistillationServiceStub(opened).GetJob(
            pb.GetJobRequest(name="ok"), metadata=(("x-request-id", given),)
        )
        await made
        found = {str(name): str(value) for name, value in await made.trailing_metadata()}
    assert len(found["x-request-id"]) == 32
    assert found["x-request-id"] != given


async def test_calls_are_counted_by_status(target: str) -> None:
    """The usual metrics, with no label that grows."""

    def count(code: str) -> float:
        labels = {
            "grpc_type": "unary",
            "grpc_service": SERVICE,
            "grpc_method": "GetJob",
            "grpc_code": code,
        }
        return REGISTRY.get_sample_value("grpc_server_handled_total", labels) or 0.0

    before = count("OK"), count("NOT_FOUND")
    await call(target, "ok")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(target, "missing")
    async with asyncio.timeout(5):
        # A caller may hear of an error a moment before the server has counted it.
        while count("NOT_FOUND") == before[1]:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    assert (count("OK"), count("NOT_FOUND")) == (before[0] + 1, before[1] + 1)


def ended(kind: str, method: str) -> Counter[str]:
    """How many calls of a method ended, by code."""
    labels = {"grpc_type": kind, "grpc_service": SERVICE, "grpc_method": method}
    codes = (code.name for code in grpc.StatusCode)
    found = {
        code: REGISTRY.get_sample_value("grpc_server_handled_total", labels | {"grpc_code": code})
        for code in codes
    }
    return Counter({code: int(number) for code, number in found.items() if number})


async def one_more(kind: str, method: str, before: Counter[str]) -> str:
    """The code of the call that ends next."""
    async with asyncio.timeout(5):
        while not (new := ended(kind, method) - before):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
    (code,) = new
    return code


async def test_a_deadline_that_passes_during_work_is_counted_as_such(target: str) -> None:
    """Whoever waited in vain was failed by us, and has not given up."""
    request = pb.WatchJobRequest(name="slow")
    one, many = ended("unary", "GetJob"), ended("server_stream", "WatchJob")
    with capture_logs() as lines:
        with pytest.raises(grpc.aio.AioRpcError):
            await call(target, "slow", timeout=0.3)
        assert await one_more("unary", "GetJob", one) == "DEADLINE_EXCEEDED"
    async with channel(target) as opened:
        stream = rpc.DistillationServiceStub(opened).WatchJob(request, timeout=0.3)
        with pytest.raises(grpc.aio.AioRpcError):
            _ = [message async for message in stream]
    assert await one_more("server_stream", "WatchJob", many) == "DEADLINE_EXCEEDED"
    assert [line["code"] for line in lines if line["event"] == "rpc"] == ["DEADLINE_EXCEEDED"]


# gRPC tells a server 10.01 s as 10.1 s, so that its caller is gone before the time is over.
@pytest.mark.parametrize(
    ("left_s", "passed_s", "code"),
    [
        (0.0, 0.3, "DEADLINE_EXCEEDED"),
        (0.009, 0.3, "DEADLINE_EXCEEDED"),
        (0.09, 10.01, "DEADLINE_EXCEEDED"),
        (0.09, 1.0, "CANCELLED"),
        (5.0, 25.0, "CANCELLED"),
        (None, 1000.0, "CANCELLED"),
    ],
)
def test_whose_clock_is_first_makes_no_difference(
    left_s: float | None, passed_s: float, code: str
) -> None:
    """A call that ends a hundredth of its time early had a deadline that passed."""
    context: Any = SimpleNamespace(time_remaining=lambda: left_s)
    assert given_up(context, time.perf_counter() - passed_s).name == code


@pytest.mark.parametrize("limit_s", [None, 30])
async def test_a_caller_who_gives_up_is_no_failure(target: str, limit_s: float | None) -> None:
    """With time left, or without any limit, the call is counted as cancelled."""
    before = ended("unary", "GetJob")
    async with channel(target) as opened:
        going = rpc.DistillationServiceStub(opened).GetJob(
            pb.GetJobRequest(name="slow"), timeout=limit_s
        )
        ASKED.clear()
        while not ASKED:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)
        going.cancel()
    assert await one_more("unary", "GetJob", before) == "CANCELLED"


async def test_the_sdk_raises_our_errors_again(target: str) -> None:
    """Class, field paths and retry hint survive the way to the client."""

    def calls() -> list[HistillError]:
        found = []
        with sync_channel(target, api_key="any") as opened:
            jobs = Jobs(opened, timeout_s=5)
            for name in ("missing", "wrong", "busy", "full"):
                try:
                    jobs.get(name)
                except HistillError as exc:
                    found.append(exc)
        return found

    ASKED.clear()
    missing, wrong, busy, full = await asyncio.to_thread(calls)
    assert isinstance(missing, NotFoundError)
    assert isinstance(wrong, InvalidArgumentError)
    assert wrong.violations[0].field == "name"
    assert isinstance(busy, ResourceExhaustedError)
    assert busy.retry_after_s == 0.25
    assert isinstance(full, ResourceExhaustedError)
    # Only inference is asked again when it is full: other calls might have done something.
    assert Counter(ASKED) == {"missing": 1, "wrong": 1, "busy": 1, "full": 1}


async def test_an_asyncio_clients_errors_are_ours_too(target: str) -> None:
    """What asyncio's channels raise is translated like what blocking ones raise."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(target, "wrong")
    ours = from_rpc_error(caught.value)
    assert isinstance(ours, InvalidArgumentError)
    assert ours.violations[0].field == "name"


class OneKey:
    """The stored keys, of which there is one."""

    loaded = True
    key = AccessKey(
        id="0" * 16,
        sha256="0" * 64,
        role="operator",
        project="team",
        description="d",
        creator="c",
        create_time=NOW,
    )

    def find(self, sha256: str) -> AccessKey | None:
        return self.key if sha256 == self.key.sha256 else None


class Uploads(registry_rpc.RegistryServiceServicer):
    """Publishes what came, once the stream has ended."""

    def __init__(self) -> None:
        self.published = 0

    async def UploadModel(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802
        del context
        async for _ in request_iterator:
            pass
        self.published += 1
        return registry_pb.UploadModelResponse()


@pytest.mark.parametrize("at_the_end", [False, True])
async def test_an_upload_ends_with_its_key(*, at_the_end: bool) -> None:
    """A key that is revoked midway, or just before the end, publishes nothing."""
    secret, stored = new_secret(), OneKey()
    stored.key = stored.key.model_copy(update={"sha256": digest(secret)})
    untyped: Any = Uploads
    uploads = untyped()
    server = grpc.aio.server(interceptors=[ServerInterceptor(Gate(AuthSettings(), stored))])
    registry_rpc.add_RegistryServiceServicer_to_server(uploads, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with channel(f"127.0.0.1:{port}") as opened:
        call = registry_rpc.RegistryServiceStub(opened).UploadModel(metadata=bearer(secret))
        await call.write(registry_pb.UploadModelRequest(chunk=registry_pb.FileChunk(data=b"x")))
        await asyncio.sleep(0.1)
        stored.key = stored.key.model_copy(update={"revoke_time": NOW})
        if at_the_end:
            await call.done_writing()
        else:
            await call.write(registry_pb.UploadModelRequest(chunk=registry_pb.FileChunk(data=b"y")))
        async with asyncio.timeout(5):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED
    await server.stop(None)
    assert uploads.published == 0
