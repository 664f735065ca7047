"""The health server of a real service: true, apart, and quick to answer whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from conftest import HOST, end, run_s3, wait_for_port
from free_ports import free_port
from histill.adapters.s3 import S3ObjectStore
from histill.rpc.health import HealthServer
from probing import NOT_SERVING, SERVING, becomes, status
from running import running
from services import service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from services import Service

READY = ("", "histill.api.registry.v1.RegistryService", "histill.api.access.v1.AccessService")
SILENCE_S = 1.0


@pytest.fixture
def port() -> int:
    """Where health is told."""
    return free_port()


@pytest.fixture
def variables(port: int, s3: S3, valkey: Valkey) -> dict[str, str]:
    """Settings of a registry with a health server that notices silence soon."""
    return settings_of(s3.settings, valkey.settings) | {
        "HISTILL_SERVER__HEALTH_PORT": str(port),
        "HISTILL_SERVER__HEALTH_SILENCE_S": str(SILENCE_S),
    }


@pytest.fixture
def registry(tmp_path: Path, port: int, variables: dict[str, str]) -> Iterator[Service]:
    """A registry that is ready."""
    with service("registry", tmp_path, variables) as started:
        wait_for_port(port)
        becomes(port, dict.fromkeys((*READY, "liveness"), SERVING))
        yield started


def child_of(port: int) -> int:
    found = [n for n, line in running("health_process").items() if f":{port} " in line]
    assert len(found) == 1
    return found[0]


def test_nothing_else_is_served_there(registry: Service, port: int) -> None:
    """No reflection, no API, no name that nobody has; and the main port tells health too."""
    assert status(registry.port, "") == SERVING
    with pytest.raises(grpc.RpcError) as unknown:
        status(port, "x.Y")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.RpcError) as reflected:
            list(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest()])))
        method: Any = channel.unary_unary("/histill.api.registry.v1.RegistryService/ListModels")
        with pytest.raises(grpc.RpcError) as called:
            method(b"", timeout=5)
    errors: list[Any] = [unknown.value, reflected.value, called.value]
    codes = [error.code() for error in errors]
    missing = grpc.StatusCode.UNIMPLEMENTED
    assert codes == [grpc.StatusCode.NOT_FOUND, missing, missing]


def test_a_process_that_stands_still_is_not_healthy(registry: Service, port: int) -> None:
    """Probes are answered all the same, with NOT_SERVING; it recovers when it goes on."""
    registry.process.send_signal(signal.SIGSTOP)
    try:
        becomes(port, dict.fromkeys((*READY, "liveness"), NOT_SERVING), seconds=SILENCE_S + 3)
    finally:
        registry.process.send_signal(signal.SIGCONT)
    becomes(port, dict.fromkeys((*READY, "liveness"), SERVING))


def test_silence_is_noticed_after_any_sign_of_life(port: int) -> None:
    """Reading what the parent says never keeps the child from answering."""
    command = ("-m", "histill.rpc.health_process", "--address", f"127.0.0.1:{port}")
    with subprocess.Popen(
        [sys.executable, *command, "--silence-s", "0.5"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        wait_for_port(port)
        for _ in range(4):
            child.stdin.write(b"1\n")
            child.stdin.flush()
            becomes(port, {"": SERVING, "liveness": SERVING})
            becomes(port, {"": NOT_SERVING, "liveness": NOT_SERVING})
        child.stdin.close()
        assert child.wait(20) == 0


async def test_signs_of_life_come_well_within_the_shortest_silence(port: int) -> None:
    """One that is late by much does not yet look like a process that stands still."""
    beats: list[float] = []
    enough = asyncio.Event()

    def alive() -> bool:
        beats.append(time.monotonic())
        if len(beats) > 12:
            enough.set()
        return True

    server = HealthServer(HOST, port, (), 1.0, alive)
    await server.start()
    beating = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(20):
            await enough.wait()
    finally:
        beating.cancel()
        await asyncio.to_thread(server.stop)
    assert beats[12] - beats[0] < 8  # of 12 silences


def test_a_process_that_died_takes_its_health_server_along(registry: Service, port: int) -> None:
    """Who watches hears NOT_SERVING first; then the port is free again."""
    child = child_of(port)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        stream = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(stream).status == SERVING
        registry.process.kill()
        registry.process.wait()
        assert next(stream).status == NOT_SERVING
    deadline = time.monotonic() + 10
    while child in running("health_process"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))


def test_a_health_server_that_died_is_started_again(registry: Service, port: int) -> None:
    """The service goes on, and so do its probes after a moment."""
    child = child_of(port)
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:
        try:
            if status(port, "") == SERVING and child_of(port) != child:
                break
        except (grpc.RpcError, AssertionError):
            assert time.monotonic() < deadline
        time.sleep(0.1)
    assert registry.process.poll() is None


def test_signals_to_the_whole_group_end_it_with_its_parent_only(
    registry: Service, port: int
) -> None:
    """Ctrl-C and SIGTERM reach the child too, which stays as long as its parent drains."""
    child = child_of(port)
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(child, number)
    time.sleep(0.5)
    assert child_of(port) == child
    assert registry.stop() == 0
    assert child not in running("health_process")


def test_not_ready_is_not_dead(tmp_path: Path, port: int, valkey: Valkey) -> None:
    """Without S3 a service is not ready, but alive; and ready again when it is back."""
    own = run_s3(tmp_path / "s3")
    S3ObjectStore.connect(own.settings).ensure_bucket()
    variables = settings_of(own.settings, valkey.settings) | {
        "HISTILL_SERVER__HEALTH_PORT": str(port),
        "HISTILL_S3__TIMEOUT_S": "1",
    }
    server = own.server
    try:
        with service("registry", tmp_path, variables):
            wait_for_port(port)
            becomes(port, {"": SERVING, "liveness": SERVING})
            end(server)
            becomes(port, {**dict.fromkeys(READY, NOT_SERVING), "liveness": SERVING})
            server = run_s3(own.folder, port=int(own.settings.endpoint.rpartition(":")[2])).server
            becomes(port, {"": SERVING, "liveness": SERVING})
    finally:
        end(server)


def test_a_draining_service_is_alive_and_not_ready(registry: Service, port: int) -> None:
    """From SIGTERM to its end, while a stream is still open."""
    with grpc.insecure_channel(f"127.0.0.1:{registry.port}") as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

        def requests() -> Iterator[Any]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            time.sleep(3)

        stream = stub.ServerReflectionInfo(requests())
        assert next(stream)
        registry.process.send_signal(signal.SIGTERM)
        becomes(port, {"": NOT_SERVING, "liveness": SERVING}, seconds=2)
        assert registry.process.wait(20) == 0


def test_a_taken_port_stops_the_start_with_words(
    tmp_path: Path, port: int, variables: dict[str, str]
) -> None:
    """The setting is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with service("registry", tmp_path, variables) as started:
            assert started.process.wait(30) == 1
            assert "HISTILL_SERVER__HEALTH_PORT" in started.log.read_text()


def test_there_need_be_none(tmp_path: Path, variables: dict[str, str]) -> None:
    """With -1 no child is started."""
    none = variables | {"HISTILL_SERVER__HEALTH_PORT": "-1"}
    with service("registry", tmp_path, none) as started:
        started.wait()
        children = f"/proc/{started.process.pid}/task/{started.process.pid}/children"
        with open(children, encoding="ascii") as found:  # noqa: PTH123
            assert found.read() == ""
