"""The limits of a real server, each broken once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from free_ports import free_port
from histill.api.distillation.v1 import distillation_service_pb2 as pb
from histill.api.distillation.v1 import distillation_service_pb2_grpc as rpc
from histill.api.distillation.v1 import job_pb2
from histill.client.jobs import Jobs
from histill.core.errors import ResourceExhaustedError, UnauthenticatedError
from histill.core.service_settings import ServerSettings
from histill.core.settings import ServiceSettings
from histill.rpc.channel import bearer, channel, sync_channel
from histill.rpc.options import server_options
from histill.rpc.server import ServiceDescription, serve
from raw_http2 import ENHANCE_YOUR_CALM, raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CODES = grpc.StatusCode
HOLDER = {"id": "ada", "sha256": hashlib.sha256(b"right").hexdigest(), "role": "admin"}
EVENTS = 12


class Scripted(rpc.DistillationServiceServicer):
    """Answers at once, or tells events slowly."""

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: N802
        del context
        return pb.GetJobResponse(job=job_pb2.Job(name=request.name))

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[pb.WatchJobResponse]:  # noqa: N802
        del context
        for number in range(int(request.after_event_id or 0) + 1, EVENTS + 1):
            await asyncio.sleep(0.2)
            yield pb.WatchJobResponse(event=job_pb2.JobEvent(event_id=str(number)))


@asynccontextmanager
async def served(
    *,
    limits: dict[str, float] | None = None,
    connection: dict[str, float] | None = None,
    auth: bool = False,
    **server: Any,
) -> AsyncIterator[int]:
    """A server with some settings; yields its port."""
    port = free_port()
    settings = ServiceSettings.model_validate(
        {
            "server": {
                "host": "127.0.0.1",
                "port": port,
                "metrics_port": -1,
                "health_port": -1,
                "drain_s": 0,
                "limits": limits or {},
                "connection": connection or {},
                **server,
            },
            "auth": {"api_keys": [HOLDER]} if auth else {"mode": "none"},
        }
    )
    scripted: Any = Scripted

    def register(server: grpc.aio.Server) -> None:
        rpc.add_DistillationServiceServicer_to_server(scripted(), server)

    async def ready() -> None:
        pass

    description = ServiceDescription("test", 1, 1, ("x.Y",), register, ready)
    serving = asyncio.create_task(serve(settings, description))
    try:
        async with channel(f"127.0.0.1:{port}") as opened:
            await asyncio.wait_for(opened.channel_ready(), 10)
        yield port
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)


async def code_of(
    port: int, *, name: str = "jobs/x", key: str = "", metadata: tuple[Any, ...] = ()
) -> grpc.StatusCode:
    async with channel(f"127.0.0.1:{port}") as opened:
        try:
            await rpc.DistillationServiceStub(opened).GetJob(
                pb.GetJobRequest(name=name), timeout=5, metadata=(*bearer(key), *metadata)
            )
        except grpc.aio.AioRpcError as exc:
            return exc.code()
    return CODES.OK


async def test_metadata_is_bounded() -> None:
    """A header beyond the limit ends the call, and the connection serves the next one."""
    async with served(limits={"metadata_bytes": 4096}) as port:
        assert await code_of(port, metadata=(("x-fill", "x" * 2000),)) is CODES.OK
        assert await code_of(port, metadata=(("x-fill", "x" * 8000),)) is CODES.RESOURCE_EXHAUSTED
        assert await code_of(port) is CODES.OK


async def test_messages_are_bounded() -> None:
    """A request beyond the limit is refused before any handler sees it."""
    async with served(max_message_bytes=1 << 20) as port:
        assert await code_of(port, name="x" * (1 << 19)) is CODES.OK
        assert await code_of(port, name="x" * (1 << 21)) is CODES.RESOURCE_EXHAUSTED


async def test_a_connection_has_so_many_streams_and_no_more() -> None:
    """The server says so, and a call too many waits for its turn."""
    async with served(limits={"concurrent_streams": 2}) as port:
        with raw(port) as connection:
            await asyncio.to_thread(connection.read, seconds=0.5)
            assert connection.settings()[3] == 2
        async with channel(f"127.0.0.1:{port}") as opened:
            stub = rpc.DistillationServiceStub(opened)
            streams = [stub.WatchJob(pb.WatchJobRequest()) for _ in range(2)]
            for stream in streams:
                assert await stream.read()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetJob(pb.GetJobRequest(), timeout=0.5)
            assert caught.value.code() is CODES.DEADLINE_EXCEEDED
            streams[0].cancel()
            assert await stub.GetJob(pb.GetJobRequest(), timeout=5)


async def test_the_server_has_so_many_calls_and_no_more() -> None:
    """One too many is refused at once, on a connection of its own too."""
    async with served(limits={"concurrent_calls": 2}) as port:
        async with channel(f"127.0.0.1:{port}") as opened:
            stub = rpc.DistillationServiceStub(opened)
            streams = [stub.WatchJob(pb.WatchJobRequest()) for _ in range(2)]
            for stream in streams:
                assert await stream.read()
            assert await code_of(port) is CODES.RESOURCE_EXHAUSTED
            for stream in streams:
                stream.cancel()
        async with asyncio.timeout(5):
            while await code_of(port) is not CODES.OK:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.05)


async def test_a_client_that_pings_too_often_is_sent_away() -> None:
    """GOAWAY with ENHANCE_YOUR_CALM, after the strikes that are forgiven."""
    async with served(limits={"ping_interval_s": 10, "ping_strikes": 2}) as port:

        def hammer() -> tuple[int | None, int]:
            with raw(port) as connection:
                for number in range(20):
                    connection.state.ping(b"12345678")
                    connection.send()
                    connection.read(seconds=0.05)
                    if connection.goaway() is not None:
                        return connection.goaway(), number + 1
                return connection.goaway(), 20

        code, pings = await asyncio.to_thread(hammer)
        assert code == ENHANCE_YOUR_CALM
        assert pings > 2
        assert await code_of(port) is CODES.OK


async def test_a_client_that_pings_seldom_is_not() -> None:
    """Pings that keep the interval are answered for as long as one likes."""
    async with served(limits={"ping_interval_s": 0.1, "ping_strikes": 1}) as port:

        def behave() -> int | None:
            with raw(port) as connection:
                for _ in range(8):
                    connection.state.ping(b"12345678")
                    connection.send()
                    connection.read(seconds=0.2)
                return connection.goaway()

        assert await asyncio.to_thread(behave) is None


def test_our_own_clients_ping_less_often_than_they_may() -> None:
    """The default of the channels keeps to the default of the servers."""
    from histill.rpc.channel import _OPTIONS

    ours = dict(_OPTIONS)["grpc.keepalive_time_ms"]
    allowed = dict(server_options(ServerSettings()))["grpc.http2.min_ping_interval_without_data_ms"]
    assert ours >= 2 * allowed


async def test_an_idle_connection_is_closed() -> None:
    """The server says goodbye to who calls nothing."""
    async with served(connection={"idle_s": 0.5}) as port:
        with raw(port) as connection:
            await asyncio.to_thread(connection.read, seconds=5)
            assert connection.goaway() is not None


async def test_an_old_connection_is_replaced_and_its_stream_goes_on() -> None:
    """After its age new calls come over another connection; within the grace a stream ends well."""
    async with (
        served(connection={"age_s": 0.5, "grace_s": 30}) as port,
        channel(f"127.0.0.1:{port}") as opened,
    ):
        stub = rpc.DistillationServiceStub(opened)
        numbers = [answer.event.event_id async for answer in stub.WatchJob(pb.WatchJobRequest())]
        assert numbers == [str(n) for n in range(1, EVENTS + 1)]
        assert await stub.GetJob(pb.GetJobRequest(), timeout=5)
        with raw(port) as connection:
            await asyncio.to_thread(connection.read, seconds=5)
            assert connection.closed


async def test_a_watch_that_was_cut_off_goes_on_where_it_was() -> None:
    """The SDK tells every event once, over as many connections as it takes."""
    async with served(connection={"age_s": 0.5, "grace_s": 0.2}) as port:

        def watch() -> list[str]:
            with sync_channel(f"127.0.0.1:{port}") as opened:
                return [event.event_id for event in Jobs(opened, timeout_s=5).watch("jobs/x")]

        assert await asyncio.to_thread(watch) == [str(n) for n in range(1, EVENTS + 1)]


async def test_a_connection_that_says_nothing_is_closed() -> None:
    """Who never begins to speak HTTP/2 holds no socket for long."""
    async with served(limits={"handshake_s": 0.5}) as port:

        def silent() -> float:
            started = time.monotonic()
            with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
                while opened.recv(4096):
                    pass
            return time.monotonic() - started

        assert await asyncio.to_thread(silent) < 5


async def test_a_peer_that_does_not_answer_is_given_up() -> None:
    """Its socket stays open and silent; the server pings, waits, and closes."""
    async with served(connection={"keepalive_s": 1, "keepalive_timeout_s": 0.5}) as port:

        def deaf() -> tuple[bool, float]:
            started = time.monotonic()
            with raw(port) as connection:
                connection.read(seconds=10, answer=False)
                return connection.closed, time.monotonic() - started

        closed, seconds = await asyncio.to_thread(deaf)
        assert closed
        assert seconds < 8


async def test_a_caller_that_calls_too_often_is_told_when_to_come_back() -> None:
    """RESOURCE_EXHAUSTED with RetryInfo, which the SDK tells as seconds."""
    async with served(limits={"calls_per_s": 0.5, "call_burst": 3}, auth=True) as port:

        def ask() -> list[float | None]:
            waits: list[float | None] = []
            with sync_channel(f"127.0.0.1:{port}", api_key="right") as opened:
                for _ in range(5):
                    try:
                        Jobs(opened, timeout_s=5).get("jobs/x")
                    except ResourceExhaustedError as exc:
                        waits.append(exc.retry_after_s)
            return waits

        waits = await asyncio.to_thread(ask)
        assert len(waits) == 2
        assert all(wait is not None and 0 < wait <= 2 for wait in waits)


async def test_an_address_that_guesses_is_told_to_wait() -> None:
    """Wrong keys end in RESOURCE_EXHAUSTED with RetryInfo; one that was right before goes on."""
    async with served(limits={"failures_per_minute": 1, "failure_burst": 2}, auth=True) as port:

        def guess() -> list[float | None]:
            waits: list[float | None] = []
            for number in range(4):
                with sync_channel(f"127.0.0.1:{port}", api_key=f"guess-{number}") as opened:
                    try:
                        Jobs(opened, timeout_s=5).get("jobs/x")
                    except UnauthenticatedError:
                        waits.append(0)
                    except ResourceExhaustedError as exc:
                        waits.append(exc.retry_after_s)
            return waits

        assert await code_of(port, key="right") is CODES.OK
        waits = await asyncio.to_thread(guess)
        assert waits[:2] == [0, 0]
        assert all(wait is not None and 0 < wait <= 60 for wait in waits[2:])
        assert await code_of(port, key="right") is CODES.OK
