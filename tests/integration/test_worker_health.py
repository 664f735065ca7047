"""The health that a real worker tells: ready, alive, and neither more than is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import pytest

from conftest import end, run_valkey, wait_for_port
from free_ports import free_port
from histill.adapters.s3 import S3ObjectStore
from histill.distill import health
from histill.distill.health import Signs, health_told
from histill.distill.settings import WorkerPart
from histill.distill.vitals import Vitals
from histill.embedded.servers import start_valkey
from probing import NOT_SERVING, SERVING, becomes, status, stays
from services import own_settings, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from services import Service

# Longer than a busy machine stands still.
SILENCE_S = 3.0
# A silent loop is borne for the silence and three time limits of Redis.
LOOP_S = SILENCE_S + 3
# A worker whose loop stands still some seconds after it began to turn, while all else goes on.
STUCK = """
import sys, time
from celery import bootsteps
from histill.distill import __main__ as worker
made = worker.make_app

class Stuck(bootsteps.StartStopStep):
    def register_with_event_loop(self, consumer, hub):
        hub.timer.call_after(3, time.sleep, (3600,))

def make_app(settings):
    app = made(settings)
    app.steps["consumer"].add(Stuck)
    return app

worker.make_app = make_app
sys.exit(worker.main())
"""


@dataclass
class World:
    """A Valkey of the test's own, and what a worker needs to start."""

    valkey: Valkey
    folder: Path
    port: int
    variables: dict[str, str]

    @property
    def redis(self) -> subprocess.Popen[bytes]:
        return self.valkey.server.process

    def restart_redis(self) -> None:
        port = int(self.variables["HISTILL_REDIS__URL"].rpartition(":")[2].partition("/")[0])
        self.valkey.server = start_valkey(
            self.folder / "valkey", port=port, password="test-password", unsafe_no_save=True
        )
        wait_for_port(port)


@pytest.fixture
def world(tmp_path: Path, s3: S3) -> Iterator[World]:
    """Servers that answer, with short time limits."""
    valkey = run_valkey(tmp_path / "valkey")
    S3ObjectStore.connect(s3.settings).ensure_bucket()
    port = free_port()
    variables = settings_of(s3.settings, valkey.settings) | {
        "HISTILL_REDIS__TIMEOUT_S": "1",
        "HISTILL_S3__TIMEOUT_S": "1",
        "HISTILL_WORKER__HEALTH_HOST": "127.0.0.1",
        "HISTILL_WORKER__HEALTH_PORT": str(port),
        "HISTILL_WORKER__HEALTH_SILENCE_S": str(SILENCE_S),
        "HISTILL_WORKER__SCRATCH": str(tmp_path),
    }
    made = World(valkey, tmp_path, port, variables)
    try:
        yield made
    finally:
        end(made.valkey.server)


@contextmanager
def worker_of(world: World) -> Iterator[Service]:
    """A worker that is ready."""
    with service("distill", world.folder, world.variables) as started:
        wait_for_port(world.port, seconds=60)
        becomes(world.port, {"": SERVING, "liveness": SERVING}, seconds=60)
        yield started


@pytest.mark.parametrize("how", ["gone", "hung"])
def test_without_redis_it_is_alive_and_not_ready(world: World, how: str) -> None:
    """However long; and it takes jobs again when Redis is back."""
    with worker_of(world):
        world.redis.send_signal(signal.SIGKILL if how == "gone" else signal.SIGSTOP)
        becomes(world.port, {"": NOT_SERVING, "liveness": SERVING}, seconds=15)
        stays(world.port, {"": NOT_SERVING, "liveness": SERVING}, seconds=2 * LOOP_S)
        if how == "gone":
            world.redis.wait()
            world.restart_redis()
        else:
            world.redis.send_signal(signal.SIGCONT)
        becomes(world.port, {"": SERVING, "liveness": SERVING}, seconds=60)


def test_a_frozen_worker_is_not_alive(world: World) -> None:
    """Probes are answered all the same; it recovers when it goes on."""
    with worker_of(world) as worker:
        worker.process.send_signal(signal.SIGSTOP)
        becomes(world.port, {"": NOT_SERVING, "liveness": NOT_SERVING}, seconds=SILENCE_S + 4)
        worker.process.send_signal(signal.SIGCONT)
        becomes(world.port, {"": SERVING, "liveness": SERVING})


def test_a_worker_whose_loop_stands_still_is_not_alive(world: World) -> None:
    """Though its other threads go on: nobody else would notice that it takes no jobs."""
    own = own_settings("distill", world.folder, port=0, metrics=free_port()) | world.variables
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    log = world.folder / "stuck.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", STUCK], env=clean | own, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        wait_for_port(world.port, seconds=60)
        becomes(world.port, {"": SERVING, "liveness": SERVING}, seconds=60)
        becomes(world.port, {"": NOT_SERVING, "liveness": NOT_SERVING}, seconds=30)
        assert "the loop that takes messages" in log.read_text()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_worker_that_drains_is_not_ready_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the next look at the servers."""
    monkeypatch.setattr(health, "_EVERY_S", 3600)
    port, parts = free_port(), Vitals()
    parts.turned()
    signs = Signs(parts, threading.Event(), redis=lambda: None, store=lambda: None)
    settings = WorkerPart(health_host="127.0.0.1", health_port=port)
    with health_told(settings, signs) as tell_drain:
        becomes(port, {"": SERVING, "liveness": SERVING})
        signs.draining.set()
        tell_drain()
        becomes(port, {"": NOT_SERVING, "liveness": SERVING})


def test_it_ends_with_its_health_server_when_it_is_told_to(world: World) -> None:
    """SIGTERM: exit code 0, and nobody answers on the port."""
    with worker_of(world) as worker:
        assert worker.stop() == 0
        with pytest.raises(grpc.RpcError):
            status(world.port, "liveness")


def test_a_taken_port_stops_the_start_with_words(world: World) -> None:
    """The setting is named."""
    with (
        worker_of(world),
        service("distill", world.folder, world.variables) as second,
    ):
        assert second.process.wait(60) == 1
        assert "HISTILL_WORKER__HEALTH_PORT" in second.log.read_text()
