"""Watchers of a job through the death and the return of the service."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from histill.adapters.redis_client import connect
from histill.adapters.redis_events import RedisEventLog
from histill.adapters.redis_jobs import RedisJobIndex
from histill.adapters.s3 import S3ObjectStore
from histill.api.distillation.v1 import job_pb2
from histill.core.clock import utc_now
from histill.core.events import JobEvent
from histill.core.job_store import JobStore
from histill.core.jobs import JobState
from histill.core.settings import S3Settings
from pictures import write_dataset
from services import KEY, client_of, service, settings_of

if TYPE_CHECKING:
    from conftest import S3, Valkey

BUCKET = "watching"


def store_of(s3: S3, valkey: Valkey) -> JobStore:
    """What a worker has: it tells of jobs while the service is away."""
    settings = S3Settings.model_validate(s3.settings.model_dump() | {"bucket": BUCKET})
    redis = connect(valkey.settings)
    objects = S3ObjectStore.connect(settings)
    return JobStore(objects, RedisJobIndex(redis), RedisEventLog(redis), utc_now)


@pytest.mark.timeout(180)
def test_sdk_and_command_line_see_every_event_once(tmp_path: Path, s3: S3, valkey: Valkey) -> None:
    """The service is killed twice while events go on; both go on from their last event."""
    own = settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": BUCKET}
    port = 0
    store = store_of(s3, valkey)
    with service("registry", tmp_path, own) as registry, service("jobs", tmp_path, own) as jobs:
        registry.wait()
        jobs.wait()
        port = jobs.port
        client = client_of(jobs, registry)
        client.datasets.push(write_dataset(tmp_path / "discs"), name="discs")
        name = client.jobs.submit({"supervised": {"dataset": "discs", "output_model": "m"}}).name
        job_id = name.removeprefix("jobs/")
        seen: list[job_pb2.JobEvent] = []
        thread = threading.Thread(target=lambda: seen.extend(client.jobs.watch(name)))
        thread.start()
        variables = {
            "HISTILL_CLIENT__JOBS": f"127.0.0.1:{port}",
            "HISTILL_CLIENT__API_KEY": KEY,
            "HISTILL_HOME": str(tmp_path / "home"),
            "PATH": "/usr/bin:/bin",
        }
        command = subprocess.Popen(
            [str(Path(sys.executable).parent / "histill"), "jobs", "watch", name, "--json"],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        _tell(store, job_id, "before", 20)
        jobs.process.kill()
        jobs.process.wait()
        _tell(store, job_id, "while away", 20)
    again = own | {"HISTILL_SERVER__PORT": str(port)}
    with service("jobs", tmp_path, again) as jobs:
        _tell(store, job_id, "back", 20)
        time.sleep(2)
        jobs.process.kill()
        jobs.process.wait()
    with service("jobs", tmp_path, again):
        _tell(store, job_id, "back again", 20)
        store.update(job_id, lambda j: j.moved_to(JobState.CANCELLED, at=utc_now()))
        thread.join(60)
        output, complaints = command.communicate(timeout=60)
    client.close()
    assert not thread.is_alive()
    expected = [
        f"{what} {number}"
        for what in ("before", "while away", "back", "back again")
        for number in range(20)
    ]
    assert [event.log for event in seen if event.WhichOneof("event") == "log"] == expected
    assert len({event.event_id for event in seen}) == len(seen)
    assert seen[-1].state == job_pb2.JOB_STATE_CANCELLED
    assert command.returncode == 1, complaints.decode()
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["log"] for line in lines if "log" in line] == expected
    assert lines[-1]["state"] == "JOB_STATE_CANCELLED"


def _tell(store: JobStore, job_id: str, what: str, count: int) -> None:
    for number in range(count):
        store.events.append(job_id, JobEvent(time=utc_now(), log=f"{what} {number}"))
        time.sleep(0.02)
