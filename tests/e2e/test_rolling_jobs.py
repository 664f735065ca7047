"""The jobs service is replaced while jobs are created and watched."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from callers import calling
from conftest import end, run_valkey
from histill.adapters.redis_client import connect
from histill.adapters.redis_events import RedisEventLog
from histill.adapters.redis_jobs import RedisJobIndex
from histill.adapters.s3 import S3ObjectStore
from histill.client import Client, ClientSettings
from histill.core.clock import utc_now
from histill.core.events import JobEvent
from histill.core.job_store import JobStore
from histill.core.jobs import JobState
from histill.core.settings import S3Settings
from pictures import write_dataset
from replicas import Replicas
from services import KEY, client_of, service, settings_of
from serving import bucket_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import S3, Valkey
    from histill.api.distillation.v1 import job_pb2

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey server without jobs of other tests."""
    running = run_valkey(tmp_path / "valkey")
    yield running
    end(running.server)


def test_jobs_are_created_once_and_watched_through_a_roll(
    tmp_path: Path, s3: S3, own_valkey: Valkey
) -> None:
    """No creation fails or counts twice, and a watcher sees each event once."""
    bucket, _ = bucket_of(s3)
    own = settings_of(s3.settings, own_valkey.settings) | {"HISTILL_S3__BUCKET": bucket}
    with service("registry", tmp_path, own) as registry, client_of(registry=registry) as client:
        registry.wait()
        client.datasets.push(write_dataset(tmp_path / "discs"), name="discs")
    lingering = {"HISTILL_SERVER__LINGER_S": "6"}
    spec = {"supervised": {"dataset": "discs", "output_model": "rolled"}}
    made: list[str] = []
    with ExitStack() as stack:
        replicas = stack.enter_context(Replicas("jobs", tmp_path, own | lingering))
        replicas.add()
        replicas.add()
        settings = {"jobs": replicas.target, "api_key": KEY}
        client = stack.enter_context(Client(ClientSettings.model_validate(settings)))
        name = client.jobs.submit(spec).name
        events, thread = watched(client, name)
        told = teller(s3, own_valkey, bucket, name)
        with calling(lambda: made.append(client.jobs.submit(spec).name), callers=2) as load:
            told("before")
            load.wait_for(20)
            assert replicas.roll() == [0, 0]
            told("after")
            load.wait_for(20)
        told("")
        thread.join(60)
        assert not thread.is_alive()
        listed = [job.name for job in client.jobs.list()]
    assert load.failed == []
    assert sorted([name, *made]) == sorted(listed)
    logs = [event.log for event in events if event.WhichOneof("event") == "log"]
    assert logs == [f"{what} {number}" for what in ("before", "after") for number in range(10)]


def watched(client: Client, name: str) -> tuple[list[job_pb2.JobEvent], threading.Thread]:
    """Events of a job as they come, and the thread that takes them."""
    events: list[job_pb2.JobEvent] = []
    thread = threading.Thread(target=lambda: events.extend(client.jobs.watch(name)), daemon=True)
    thread.start()
    return events, thread


def teller(s3: S3, valkey: Valkey, bucket: str, name: str) -> Callable[[str], None]:
    """What a worker has: ten events at a time; at last, without words, the end."""
    settings: Any = s3.settings.model_dump() | {"bucket": bucket}
    redis = connect(valkey.settings)
    objects = S3ObjectStore.connect(S3Settings.model_validate(settings))
    store = JobStore(objects, RedisJobIndex(redis), RedisEventLog(redis), utc_now)
    job_id = name.removeprefix("jobs/")

    def tell(what: str) -> None:
        if not what:
            store.update(job_id, lambda job: job.moved_to(JobState.CANCELLED, at=utc_now()))
            return
        for number in range(10):
            store.events.append(job_id, JobEvent(time=utc_now(), log=f"{what} {number}"))

    return tell
