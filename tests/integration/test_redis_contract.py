"""The contracts of what lives in Redis, on the real server and on the unit tests' fakes."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryEvents, MemoryIndex, MemoryLive, MemoryQueue, MemoryVersions
from histill.adapters.celery_queue import CeleryJobQueue
from histill.adapters.redis_client import connect
from histill.adapters.redis_events import RedisEventLog
from histill.adapters.redis_jobs import RedisJobIndex, RedisVersionCounter
from histill.adapters.redis_live import RedisLiveState
from histill.core.errors import InvalidArgumentError, QueueUnavailableError, SettingsError
from histill.core.events import JobEvent
from histill.core.jobs import Job, JobState, Progress
from histill.core.names import new_job_id
from histill.core.settings import RedisSettings
from histill.core.specs import SupervisedSpec

if TYPE_CHECKING:
    from conftest import Valkey
    from histill.core.ports import EventLog, JobIndex, JobQueue, LiveState, VersionCounter

START = datetime(2026, 1, 1, tzinfo=UTC)


def job(minutes: int = 0) -> Job:
    spec = SupervisedSpec(dataset="d", output_model="m")
    return Job(id=new_job_id(), spec=spec, create_time=START + timedelta(minutes=minutes))


@dataclass
class Ports:
    """One implementation of everything."""

    index: JobIndex
    events: EventLog
    live: LiveState
    versions: VersionCounter
    queue: JobQueue


@pytest.fixture(params=["redis", "memory"])
def ports(request: pytest.FixtureRequest) -> Ports:
    """One implementation after the other, empty."""
    if request.param == "memory":
        return Ports(MemoryIndex(), MemoryEvents(), MemoryLive(), MemoryVersions(), MemoryQueue())
    settings = request.getfixturevalue("valkey").settings
    client = connect(settings)
    client.flushall()
    return Ports(
        RedisJobIndex(client),
        RedisEventLog(client),
        RedisLiveState(client),
        RedisVersionCounter(client),
        CeleryJobQueue.connect(settings),
    )


def test_records_come_back_newest_first_in_pages(ports: Ports) -> None:
    """Pages follow each other without gap or overlap; an unknown token ends them."""
    jobs = [job(minute) for minute in range(5)]
    for each in jobs:
        ports.index.save(each)
    first = ports.index.page(before="", limit=2)
    second = ports.index.page(before=first[-1].id, limit=10)
    assert [*first, *second] == list(reversed(jobs))
    assert ports.index.page(before="gone", limit=2) == []


def test_a_saved_record_replaces_and_a_deleted_one_is_gone(ports: Ports) -> None:
    """One record a job; open jobs are those that have not ended."""
    old = job()
    ports.index.save(old)
    assert ports.index.open_jobs() == [old]
    ended = old.moved_to(JobState.CANCELLED, at=START)
    ports.index.save(ended)
    assert (ports.index.get(old.id), ports.index.open_jobs()) == (ended, [])
    ports.index.delete(old.id)
    assert ports.index.get(old.id) is None
    assert ports.index.page(before="", limit=9) == []


def test_an_idempotency_key_stays_with_its_first_job(ports: Ports) -> None:
    """The first claim wins for good."""
    assert ports.index.claim_request("key", "a") == "a"
    assert ports.index.claim_request("key", "b") == "a"


def test_the_mark_of_a_built_index_is_kept(ports: Ports) -> None:
    """A fresh index is not built until somebody says so."""
    assert not ports.index.is_built()
    ports.index.mark_built()
    assert ports.index.is_built()


def test_a_lock_keeps_others_out(ports: Ports) -> None:
    """Whoever wants a held lock waits for its end."""
    order: list[str] = []

    def second() -> None:
        with ports.index.lock("j"):
            order.append("second")

    thread = threading.Thread(target=second)
    with ports.index.lock("j"):
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_events_keep_their_order_and_ids_grow(ports: Ports) -> None:
    """A reader resumes after any id it has seen."""
    stored = [ports.events.append("j", JobEvent(time=START, log=str(n))) for n in range(5)]
    assert [event.log for event in ports.events.read("j")] == list("01234")
    assert ports.events.read("j", after=stored[2].id) == stored[3:]
    assert ports.events.read("j", limit=2) == stored[:2]
    assert ports.events.read("other") == []


def test_events_are_restored_with_their_ids(ports: Ports) -> None:
    """An archive goes back into an empty log, so that watchers can resume."""
    archive = [ports.events.append("j", JobEvent(time=START, log=str(n))) for n in range(3)]
    ports.events.restore("k", archive)
    assert ports.events.read("k") == archive


def test_one_lease_at_a_time_with_a_growing_fence(ports: Ports) -> None:
    """A held lease keeps others out; each new one has a larger number."""
    first = ports.live.acquire_lease("j", "a", ttl_s=30, floor=0)
    assert first is not None
    assert ports.live.acquire_lease("j", "b", ttl_s=30, floor=0) is None
    assert ports.live.leased("j")
    assert ports.live.renew_lease("j", "a", first, ttl_s=30)
    assert not ports.live.renew_lease("j", "b", first, ttl_s=30)
    ports.live.release_lease("j", "b", first)
    assert ports.live.leased("j")
    ports.live.release_lease("j", "a", first)
    second = ports.live.acquire_lease("j", "b", ttl_s=30, floor=0)
    assert second is not None
    assert second > first
    ports.live.release_lease("j", "b", second)
    # A record that has seen a larger number than Redis remembers sets the floor.
    assert ports.live.acquire_lease("j", "c", ttl_s=30, floor=70) == 71


def test_progress_is_replaced_and_metrics_merge(ports: Ports) -> None:
    """The last progress counts; each metric keeps its last value."""
    assert ports.live.progress("j") == (None, {})
    ports.live.set_progress("j", Progress(stage="training", step=1), {"loss": 0.5})
    ports.live.set_progress("j", Progress(stage="training", step=2), {"dice": 0.25})
    assert ports.live.progress("j") == (
        Progress(stage="training", step=2),
        {"loss": 0.5, "dice": 0.25},
    )
    ports.live.clear("j")
    assert ports.live.progress("j") == (None, {})


def test_a_cancel_request_stays_until_cleared(ports: Ports) -> None:
    """The flag goes up once and down with the attempt's end."""
    assert not ports.live.cancel_requested("j")
    ports.live.request_cancel("j")
    assert ports.live.cancel_requested("j")
    ports.live.clear("j")
    assert not ports.live.cancel_requested("j")


def test_one_replica_leads(ports: Ports) -> None:
    """The leader stays leader; another waits."""
    assert ports.live.lead("a", ttl_s=30)
    assert not ports.live.lead("b", ttl_s=30)
    assert ports.live.lead("a", ttl_s=30)


def test_version_numbers_never_come_twice(ports: Ports) -> None:
    """Numbers grow from the floor, for each key by itself."""
    numbers = [ports.versions.next("m", at_least=n) for n in (1, 1, 7, 2)]
    assert numbers == [1, 2, 7, 8]
    assert ports.versions.next("other", at_least=1) == 1


def test_the_queue_counts_what_waits(ports: Ports) -> None:
    """Each submitted id is one waiting message."""
    assert ports.queue.depth() == 0
    ports.queue.submit("a", priority=0)
    ports.queue.submit("b", priority=9)
    assert ports.queue.depth() == 2


def test_a_lease_runs_out(valkey: Valkey) -> None:
    """A holder that stops renewing loses the lease, and its number with it."""
    live = RedisLiveState(connect(valkey.settings))
    fence = live.acquire_lease("short", "a", ttl_s=0.05, floor=0)
    assert fence is not None
    time.sleep(0.1)
    assert not live.leased("short")
    assert not live.renew_lease("short", "a", fence, ttl_s=30)


def test_a_malformed_event_id_is_named(valkey: Valkey) -> None:
    """What is no event id is a wrong argument, not a Redis failure."""
    with pytest.raises(InvalidArgumentError, match="after_event_id"):
        RedisEventLog(connect(valkey.settings)).read("j", after="yesterday")


def test_a_server_that_is_away_is_named_without_its_password() -> None:
    """A refused connection names the setting and never tells the password."""
    away = RedisSettings.model_validate({"url": "redis://:secret@127.0.0.1:9/0", "timeout_s": 1})
    with pytest.raises(QueueUnavailableError, match="HISTILL_REDIS__URL") as caught:
        RedisJobIndex(connect(away)).ping()
    assert "secret" not in str(caught.value)
    with pytest.raises(QueueUnavailableError, match="HISTILL_REDIS__URL"):
        CeleryJobQueue.connect(away).submit("j", priority=0)


def test_a_url_that_is_none_is_told_without_its_parts() -> None:
    """A password with a slash breaks the URL, and must not be told for that."""
    broken = RedisSettings.model_validate({"url": "redis://:hunter2/xyz@redis:6379/0"})
    with pytest.raises(SettingsError, match="HISTILL_REDIS__URL") as caught:
        connect(broken)
    assert "hunter2" not in str(caught.value)


def test_a_wrong_password_is_named(valkey: Valkey) -> None:
    """A refused password names the setting to correct."""
    url = valkey.settings.url.get_secret_value().replace("test-password", "wrong")
    wrong = RedisSettings.model_validate({"url": url})
    with pytest.raises(QueueUnavailableError, match="password"):
        RedisJobIndex(connect(wrong)).ping()
