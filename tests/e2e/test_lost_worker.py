"""What happens to a job whose worker, or trainer, is killed."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from google.rpc import error_details_pb2

from histill.api.distillation.v1 import job_pb2
from pictures import write_dataset
from running import running
from services import Service, client_of, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from histill.client import Client


@dataclass
class System:
    """Jobs, registry and one worker, each a process of its own."""

    client: Client
    worker: Service
    folder: Path
    variables: dict[str, str]


@pytest.fixture
def system(tmp_path: Path, s3: S3, valkey: Valkey) -> Iterator[System]:
    """A system whose leases run out soon."""
    own = settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": "lost"}
    impatient = {"HISTILL_REAPER__GRACE_S": "1", "HISTILL_REAPER__EVERY_S": "0.5"}
    leases = {
        "HISTILL_WORKER__LEASE_TTL_S": "3",
        "HISTILL_WORKER__SCRATCH": str(tmp_path),
        "HISTILL_WORKER__CHECKPOINT_S": "0.5",
        "HISTILL_WORKER__MAX_LOSSES": "2",
    }
    with ExitStack() as stack:
        registry = stack.enter_context(service("registry", tmp_path, own))
        jobs = stack.enter_context(service("jobs", tmp_path, own | impatient))
        worker = stack.enter_context(service("distill", tmp_path, own | leases))
        registry.wait()
        jobs.wait()
        client = stack.enter_context(client_of(jobs, registry))
        client.datasets.push(write_dataset(tmp_path / "discs"), name="discs")
        yield System(client, worker, tmp_path, own | leases)


def job(steps: int) -> dict[str, Any]:
    network = {"architecture": "unet", "width": 4, "depth": 3}
    training = {"steps": steps, "batch_size": 8, "crop_size": 32}
    spec = {"dataset": "discs", "output_model": "lost", "network": network, "training": training}
    return {"supervised": spec}


def training_has_begun(client: Client, name: str) -> None:
    for event in client.jobs.watch(name):
        if event.progress.stage == "training" and event.progress.step > 0:
            return
    pytest.fail("the job ended before it trained")


def test_another_worker_finishes_a_killed_ones_job(system: System) -> None:
    """The job comes back as attempt two, and its watcher sees both attempts once each."""
    name = system.client.jobs.submit(job(250)).name
    training_has_begun(system.client, name)
    system.worker.process.kill()
    with service("distill", system.folder, system.variables):
        ended = system.client.jobs.wait(name)
    assert (ended.state, ended.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    events = list(system.client.jobs.watch(name))
    states = [event.state for event in events if event.WhichOneof("event") == "state"]
    assert states == [
        job_pb2.JOB_STATE_QUEUED,
        job_pb2.JOB_STATE_RUNNING,
        job_pb2.JOB_STATE_QUEUED,
        job_pb2.JOB_STATE_RUNNING,
        job_pb2.JOB_STATE_SUCCEEDED,
    ]
    assert len({event.event_id for event in events}) == len(events)
    assert [model.reference for model in system.client.models.list(name="lost")] == ["lost@1"]


def test_a_killed_workers_data_free_job_goes_on_where_it_was(system: System) -> None:
    """The second worker begins at the first one's checkpoint, not at step 0."""
    client = system.client
    teacher = client.jobs.wait(client.jobs.submit(job(20)).name)
    assert teacher.state == job_pb2.JOB_STATE_SUCCEEDED, teacher.error
    spec = {
        "output_model": "free",
        "teachers": ["lost"],
        "student": {"architecture": "unet", "width": 4, "depth": 3},
        "training": {"steps": 600, "batch_size": 4, "image_size": 16},
        "generators": {"width": 4, "noise": 4},
    }
    name = client.jobs.submit({"data_free": spec}).name
    for event in client.jobs.watch(name):
        if event.progress.step > 200:
            break
    system.worker.process.kill()
    with service("distill", system.folder, system.variables):
        ended = client.jobs.wait(name)
    assert (ended.state, ended.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    events = list(client.jobs.watch(name))
    steps = [event.progress.step for event in events if event.attempt == 2 and event.progress.step]
    assert min(steps) > 100
    assert any("resumed" in event.log for event in events if event.attempt == 2)


def test_a_trainer_that_is_killed_again_and_again_fails_the_job_with_words(
    system: System,
) -> None:
    """The first may be bad luck; then the job says what it most likely is. The worker lives on."""
    name = system.client.jobs.submit(job(100_000)).name
    attempt = 0
    for event in system.client.jobs.watch(name):
        if event.progress.step > 0 and event.attempt > attempt:
            attempt = event.attempt
            for number in running(f"histill.distill.trainer {system.folder}"):
                os.kill(number, signal.SIGKILL)
    ended = system.client.jobs.get(name)
    info = error_details_pb2.ErrorInfo()
    assert ended.error.details[0].Unpack(info)
    assert (ended.state, info.reason) == (job_pb2.JOB_STATE_FAILED, "OUT_OF_MEMORY")
    assert ended.attempt == 2
    assert system.worker.process.poll() is None


def test_a_stopped_worker_gives_its_job_back(system: System) -> None:
    """At SIGTERM the job is queued again, no trainer is left, and the worker ends cleanly."""
    name = system.client.jobs.submit(job(100_000)).name
    training_has_begun(system.client, name)
    assert system.worker.stop() == 0
    assert system.client.jobs.get(name).state == job_pb2.JOB_STATE_QUEUED
    assert running(f"histill.distill.trainer {system.folder}") == {}
    assert system.client.jobs.cancel(name).state == job_pb2.JOB_STATE_CANCELLED


def test_the_next_worker_goes_on_where_a_stopped_one_was(system: System) -> None:
    """At SIGTERM the trainer writes one more checkpoint, however long its interval."""
    system.worker.stop()
    seldom = system.variables | {"HISTILL_WORKER__CHECKPOINT_S": "1000"}
    name = system.client.jobs.submit(job(600)).name
    with service("distill", system.folder, seldom) as first:
        for event in system.client.jobs.watch(name):
            if event.progress.step > 50:
                break
        assert first.stop() == 0
    with service("distill", system.folder, seldom):
        ended = system.client.jobs.wait(name)
    assert (ended.state, ended.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    events = list(system.client.jobs.watch(name))
    before = max(event.progress.step for event in events if event.attempt == 1)
    after = min(e.progress.step for e in events if e.attempt == 2 and e.progress.step)
    assert after >= before > 50


def test_a_worker_that_wakes_up_finds_that_it_has_lost_its_job(system: System) -> None:
    """Another has done it: one result, and the sleeper says so in its log and its metrics."""
    name = system.client.jobs.submit(job(300)).name
    training_has_begun(system.client, name)
    system.worker.process.send_signal(signal.SIGSTOP)
    with service("distill", system.folder, system.variables):
        ended = system.client.jobs.wait(name)
        system.worker.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + 30
        while "lease_lost" not in system.worker.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        # It is free again: the next job may be its own.
        again = system.client.jobs.wait(system.client.jobs.submit(job(20)).name)
    assert (ended.state, ended.attempt) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    assert again.state == job_pb2.JOB_STATE_SUCCEEDED
    results = [model.job for model in system.client.models.list(name="lost")]
    assert [results.count(each) for each in (name, again.name)] == [1, 1]
    attempts = [event.attempt for event in system.client.jobs.watch(name)]
    assert attempts == sorted(attempts)
    with urllib.request.urlopen(
        f"http://127.0.0.1:{system.worker.metrics_port}/metrics", timeout=10
    ) as page:
        assert "histill_lease_lost_total 1.0" in page.read().decode()
