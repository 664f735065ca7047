"""Pools of workers, with real processes: who runs what, and what is told of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from conftest import end, run_s3, run_valkey, wait_for_port
from free_ports import free_port
from histill.api.distillation.v1 import job_pb2
from histill.core.errors import InvalidArgumentError
from pictures import write_dataset
from probing import NOT_SERVING, SERVING, becomes
from running import running
from services import KEY, client_of, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.client import Client
    from services import Service


@dataclass
class World:
    """A jobs service with the pools ``default`` and ``gpu``, and no worker yet."""

    client: Client
    jobs: Service
    folder: Path
    variables: dict[str, str]
    stack: ExitStack

    def worker(self, *pools: str, **also: str) -> Service:
        variables = self.variables | {"HISTILL_WORKER__POOLS": json.dumps(pools)} | also
        return self.stack.enter_context(service("distill", self.folder, variables))

    def metric(self, series: str) -> float | None:
        url = f"http://127.0.0.1:{self.jobs.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            found = re.search(rf"^{re.escape(series)} (\S+)$", page.read().decode(), re.MULTILINE)
        return float(found[1]) if found else None

    def becomes(self, wanted: dict[str, float | None]) -> None:
        deadline = time.monotonic() + 60
        while (found := {series: self.metric(series) for series in wanted}) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything of the test's own: nobody else's jobs are counted."""
    folder = tmp_path_factory.mktemp("pools")
    valkey, s3 = run_valkey(folder / "valkey"), run_s3(folder / "s3")
    variables = settings_of(s3.settings, valkey.settings) | {
        "HISTILL_JOBS__POOLS": '["default", "gpu"]',
        "HISTILL_REAPER__EVERY_S": "0.5",
        "HISTILL_WORKER__SCRATCH": str(folder),
    }
    try:
        with ExitStack() as stack:
            jobs = stack.enter_context(service("jobs", folder, variables))
            registry = stack.enter_context(service("registry", folder, variables))
            jobs.wait(seconds=60)
            registry.wait(seconds=60)
            client = stack.enter_context(client_of(jobs, registry))
            client.datasets.push(write_dataset(folder / "discs"), name="discs")
            yield World(client, jobs, folder, variables, stack)
    finally:
        end(valkey.server)
        end(s3.server)


def job(steps: int) -> dict[str, Any]:
    network = {"architecture": "unet", "width": 4, "depth": 3}
    training = {"steps": steps, "batch_size": 8, "crop_size": 32}
    spec = {"dataset": "discs", "output_model": "pooled", "network": network, "training": training}
    return {"supervised": spec}


def trains(client: Client, name: str) -> None:
    for event in client.jobs.watch(name):
        if event.progress.stage == "training" and event.progress.step > 0:
            return
    pytest.fail("the job ended before it trained")


def demand(pool: str) -> str:
    return f'histill_worker_demand{{pool="{pool}"}}'


def ended(state: str) -> str:
    return f'histill_jobs_ended_total{{kind="SUPERVISED",state="{state}"}}'


def test_a_running_job_counts_in_the_demand_of_its_pool_until_its_end(world: World) -> None:
    """The queue alone would say that nothing is to do, and its worker would be taken away."""
    world.becomes({demand("default"): 0, demand("gpu"): 0, ended("CANCELLED"): 0})
    first = world.client.jobs.submit(job(100_000), pool="gpu")
    waiting = world.client.jobs.submit(job(100_000))
    assert (first.pool, waiting.pool) == ("gpu", "default")
    world.becomes({demand("gpu"): 1, demand("default"): 1, "histill_job_queue_depth": 2})
    worker = world.worker("gpu")
    trains(world.client, first.name)
    world.becomes({demand("gpu"): 1, demand("default"): 1, "histill_job_queue_depth": 1})
    oldest = world.metric('histill_job_queue_oldest_seconds{pool="default"}')
    assert oldest is not None
    assert oldest > 0
    assert world.metric('histill_job_queue_oldest_seconds{pool="gpu"}') == 0
    assert world.client.jobs.get(waiting.name).state == job_pb2.JOB_STATE_QUEUED
    progress = 'histill_job_progress_ratio{kind="SUPERVISED"}'
    share = world.metric(progress)
    assert share is not None
    assert 0 <= share < 1
    for name in (first.name, waiting.name):
        world.client.jobs.cancel(name)
        world.client.jobs.wait(name)
    world.becomes({demand("gpu"): 0, demand("default"): 0, ended("CANCELLED"): 2, progress: None})
    assert worker.stop() == 0


def test_a_worker_of_several_pools_takes_from_each(world: World) -> None:
    """And says how each ended, once, though it is gone when somebody asks."""
    before = world.metric(ended("SUCCEEDED")) or 0
    names = [world.client.jobs.submit(job(5), pool=pool).name for pool in ("default", "gpu")]
    worker = world.worker("gpu", "default")
    for name in names:
        assert world.client.jobs.wait(name).state == job_pb2.JOB_STATE_SUCCEEDED
    assert worker.stop() == 0
    world.becomes({ended("SUCCEEDED"): before + 2, demand("gpu"): 0, demand("default"): 0})


def test_a_draining_worker_is_alive_and_not_ready_and_its_job_still_wanted(world: World) -> None:
    """From SIGTERM on; the job goes back to its pool's queue."""
    port = free_port()
    name = world.client.jobs.submit(job(100_000), pool="gpu").name
    worker = world.worker(
        "gpu",
        HISTILL_WORKER__HEALTH_HOST="127.0.0.1",
        HISTILL_WORKER__HEALTH_PORT=str(port),
        HISTILL_WORKER__DRAIN_S="10",
    )
    trains(world.client, name)
    wait_for_port(port)
    becomes(port, {"": SERVING, "liveness": SERVING})
    # So that there is time to look: its last checkpoint is waited for in vain.
    (trainer,) = running(f"histill.distill.trainer {world.folder}")
    os.kill(trainer, signal.SIGSTOP)
    worker.process.send_signal(signal.SIGTERM)
    becomes(port, {"": NOT_SERVING, "liveness": SERVING}, seconds=4)
    assert worker.process.poll() is None
    assert worker.process.wait(60) == 0
    assert world.client.jobs.get(name).state == job_pb2.JOB_STATE_QUEUED
    world.becomes({demand("gpu"): 1})
    world.client.jobs.cancel(name)


def test_a_pool_that_nobody_has_is_refused_with_those_there_are(world: World) -> None:
    """Before anything is stored; also in a file, and a word of the caller goes before it."""
    with pytest.raises(InvalidArgumentError) as refused:
        world.client.jobs.submit(job(5) | {"pool": "gpus"})
    (violation,) = refused.value.violations
    assert violation.field == "job.pool"
    assert "default, gpu" in violation.description
    made = world.client.jobs.submit(job(5) | {"pool": "gpus"}, pool="gpu")
    assert world.client.jobs.get(made.name).pool == "gpu"
    world.client.jobs.cancel(made.name)


def test_the_command_line_names_a_pool_and_lists_them(world: World, tmp_path: Path) -> None:
    """``--pool`` goes before the file; the listing has a column once there are several."""
    (tmp_path / "job.yaml").write_text(json.dumps(job(5) | {"pool": "default"}))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")} | {
        "HISTILL_CLIENT__JOBS": f"127.0.0.1:{world.jobs.port}",
        "HISTILL_CLIENT__API_KEY": KEY,
        "HISTILL_HOME": str(tmp_path),
        "COLUMNS": "200",
    }

    def histill(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "histill.cli.main", *words],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    made = json.loads(
        histill("jobs", "submit", str(tmp_path / "job.yaml"), "--pool", "gpu", "--json")
    )
    other = world.client.jobs.submit(job(5))
    assert made["pool"] == "gpu"
    lines = histill("jobs", "ls").splitlines()
    assert any(made["name"] in line and "gpu" in line for line in lines)
    assert any(other.name in line and "default" in line for line in lines)
    for name in (made["name"], other.name):
        world.client.jobs.cancel(name)
