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
from histill.core.jobs import Job, JobKind, JobState, Progress
from histill.core.names import new_job_id
from histill.core.pools import PoolLoad
from histill.core.projects import DEFAULT, numbered
from histill.core.settings import RedisSettings
from histill.core.specs import SupervisedSpec

if TYPE_CHECKING:
    from collections.abc import Collection

    from conftest import Valkey
    from histill.core.ports import EventLog, JobIndex, JobQueue, LiveState, VersionCounter

START = datetime(2026, 1, 1, tzinfo=UTC)


def job(minutes: int = 0) -> Job:
    spec = SupervisedSpec(dataset="d", output_model="m")
    return Job(id=new_job_id(), spec=spec, create_time=START + timedelta(minutes=minutes))


def moved(job: Job, state: JobState) -> Job:
    """The job in its next revision."""
    return job.moved_to(state, at=START, revision=job.revision + 1)


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
        assert ports.index.save(each)
    first = page(ports, limit=2)
    ports.index.delete(first[-1].id)
    second = page(ports, before=first[-1].place, limit=10)
    assert [*first, *second] == list(reversed(jobs))


def test_pages_are_of_one_project_and_of_the_states_asked_for(ports: Ports) -> None:
    """A job is listed where it is now, and nowhere it was before."""
    mine, ended = job(1), job(2)
    theirs = job(3).model_copy(update={"project": "other"})
    for each in (mine, ended, theirs):
        ports.index.save(each)
    ended = moved(ended, JobState.CANCELLED)
    ports.index.save(ended)
    assert page(ports) == [ended, mine]
    assert ports.index.page(project="other", before="", limit=9, states=()) == [theirs]
    assert page(ports, states={JobState.QUEUED}) == [mine]
    assert page(ports, states={JobState.QUEUED, JobState.CANCELLED}) == [ended, mine]
    assert page(ports, states={JobState.QUEUED, JobState.CANCELLED}, limit=1) == [ended]
    assert page(ports, states={JobState.RUNNING}) == []


def test_a_record_of_an_earlier_revision_is_refused(ports: Ports) -> None:
    """A writer that slept cannot replace what came after it."""
    late = job().model_copy(update={"revision": 1})
    newer = late.model_copy(update={"revision": 2, "display_name": "newer"})
    assert ports.index.save(late)
    assert ports.index.save(newer)
    assert not ports.index.save(late)
    # Two writers of one revision: the first one's stays, and may be saved again.
    assert not ports.index.save(newer.model_copy(update={"display_name": "other"}))
    assert ports.index.save(newer)
    assert ports.index.get(late.id) == newer


def test_a_deleted_record_stays_deleted(ports: Ports) -> None:
    """A writer that slept through the deletion brings nothing back."""
    one = job()
    ports.index.save(one)
    ports.index.delete(one.id)
    assert not ports.index.save(moved(one, JobState.RUNNING))
    assert ports.index.get(one.id) is None
    assert page(ports) == []


def test_an_index_that_was_lost_while_it_was_filled_is_not_built(ports: Ports) -> None:
    """The half that was there before is gone: it must be filled again."""
    build = ports.index.begin_build()
    ports.index.begin_build()
    if isinstance(ports.index, MemoryIndex):
        ports.index.building.clear()
    elif isinstance(ports.index, RedisJobIndex):
        ports.index._client.flushall()
    assert not ports.index.mark_built(build)
    assert not ports.index.is_built()


def test_a_key_goes_over_to_another_job_once(ports: Ports) -> None:
    """Only from the one that is believed to have it."""
    assert ports.index.mark_built(ports.index.begin_build())
    ports.index.claim_request("key", "a")
    ports.index.rebind_request("key", "b", instead_of="x")
    assert ports.index.claim_request("key", "z") == "a"
    ports.index.rebind_request("key", "b", instead_of="a")
    assert ports.index.claim_request("key", "z") == "b"


def page(
    ports: Ports, *, before: str = "", limit: int = 9, states: Collection[JobState] = ()
) -> list[Job]:
    return ports.index.page(project="default", before=before, limit=limit, states=states)


def test_a_saved_record_replaces_and_a_deleted_one_is_gone(ports: Ports) -> None:
    """One record a job; open jobs are those that have not ended."""
    old = job()
    ports.index.save(old)
    assert (ports.index.queued(), ports.index.running()) == ({old.id}, [])
    running = moved(old, JobState.RUNNING)
    ports.index.save(running)
    assert (ports.index.queued(), ports.index.running()) == (set(), [running])
    assert ports.index.counts()[JobKind.SUPERVISED, JobState.RUNNING] == 1
    ended = moved(running, JobState.CANCELLED)
    ports.index.save(ended)
    assert (ports.index.get(old.id), ports.index.running()) == (ended, [])
    assert ports.index.unclosed() == {old.id}
    ports.index.save(ended.model_copy(update={"closed": True, "revision": 3}))
    assert ports.index.unclosed() == set()
    ports.index.delete(old.id)
    assert ports.index.get(old.id) is None
    assert page(ports) == []
    assert set(ports.index.counts().values()) == {0}


def test_each_pool_counts_what_waits_and_what_runs(ports: Ports) -> None:
    """Wherever a job is now; the oldest is the first that was accepted, whatever came later."""
    first, second, other = job(1), job(2), job(3).model_copy(update={"pool": "gpu"})
    for each in (second, first, other):
        ports.index.save(each)
    assert ports.index.pools() == {
        "default": PoolLoad(2, 0, START + timedelta(minutes=1)),
        "gpu": PoolLoad(1, 0, START + timedelta(minutes=3)),
    }
    running = moved(first, JobState.RUNNING)
    ports.index.save(running)
    assert ports.index.pools()["default"] == PoolLoad(1, 1, START + timedelta(minutes=2))
    since = {kind: jobs for kind, jobs in ports.index.running_since().items() if jobs}
    assert since == {JobKind.SUPERVISED: {first.id: START}}
    ports.index.save(moved(running, JobState.SUCCEEDED))
    ports.index.save(moved(second, JobState.CANCELLED))
    ports.index.delete(other.id)
    assert all(load == PoolLoad() for load in ports.index.pools().values())


def test_a_job_that_was_put_back_waits_anew(ports: Ports) -> None:
    """The hours that it ran are none that it waited; later changes are no new wait."""
    running = job().moved_to(JobState.RUNNING, at=START, revision=1)
    ports.index.save(running)
    before = datetime.now(UTC)
    queued = moved(running, JobState.QUEUED)
    ports.index.save(queued)
    oldest = ports.index.pools()["default"].oldest
    assert oldest is not None
    # Milliseconds are all that is kept.
    assert oldest >= before - timedelta(milliseconds=1)
    time.sleep(0.1)
    ports.index.save(queued.model_copy(update={"revision": queued.revision + 1}))
    assert ports.index.pools()["default"].oldest == oldest


def test_each_ending_is_told_once(ports: Ports) -> None:
    """However often it is saved, changed or closed afterwards; an unknown job's is not."""
    ended = moved(moved(job(), JobState.RUNNING), JobState.FAILED)
    ports.index.save(ended)
    assert ports.index.take_ended() == {}
    waiting = job()
    ports.index.save(waiting)
    running = moved(waiting, JobState.RUNNING)
    ports.index.save(running)
    done = moved(running, JobState.SUCCEEDED)
    cancelled = moved(job(), JobState.CANCELLED)
    ports.index.save(cancelled.model_copy(update={"state": JobState.QUEUED, "revision": 0}))
    for each in (done, done, cancelled):
        ports.index.save(each)
    ports.index.save(done.model_copy(update={"closed": True, "revision": done.revision + 1}))
    assert ports.index.take_ended() == {
        (JobKind.SUPERVISED, JobState.SUCCEEDED): 1,
        (JobKind.SUPERVISED, JobState.CANCELLED): 1,
    }
    assert ports.index.take_ended() == {}


def test_progress_says_for_how_long_it_is_old(ports: Ports) -> None:
    """Of those jobs that told any; each telling begins anew."""
    progress = Progress(stage="training", step=1, steps=2)
    ports.live.set_progress("a", progress, {})
    ports.live.set_progress("b", progress, {})
    time.sleep(0.5)
    ports.live.set_progress("b", progress, {})
    told = ports.live.told(["a", "b", "c"])
    assert {name: said for name, (said, _) in told.items()} == {"a": progress, "b": progress}
    assert told["a"][1] >= 0.5
    assert told["a"][1] - told["b"][1] > 0.4
    assert ports.live.told([]) == {}


def test_an_idempotency_key_stays_with_its_first_job(ports: Ports) -> None:
    """The first claim wins for good."""
    assert ports.index.mark_built(ports.index.begin_build())
    assert ports.index.claim_request("key", "a") == "a"
    assert ports.index.claim_request("key", "b") == "a"
    assert ports.index.claim_request("", "a") == "a"
    assert ports.index.claim_request("", "b") == "b"


def test_an_index_that_is_being_built_binds_no_new_key(ports: Ports) -> None:
    """It does not know all keys yet; those that are read from the store are bound."""
    assert ports.index.claim_request("key", "b") is None
    assert ports.index.claim_request("", "b") is None
    ports.index.bind_request("key", "a")
    ports.index.bind_request("key", "c")
    assert ports.index.mark_built(ports.index.begin_build())
    assert ports.index.claim_request("key", "b") == "a"


def test_the_mark_of_a_built_index_is_kept(ports: Ports) -> None:
    """A fresh index is not built until somebody says so."""
    assert not ports.index.is_built()
    assert ports.index.mark_built(ports.index.begin_build())
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
    stored = [append(ports, "j", str(n)) for n in range(5)]
    assert [event.log for event in ports.events.read("j")] == list("01234")
    assert ports.events.read("j", after=stored[2].id) == stored[3:]
    assert ports.events.read("j", limit=2) == stored[:2]
    assert ports.events.read("other") == []


def append(ports: Ports, job_id: str, log: str) -> JobEvent:
    event = ports.events.append(job_id, JobEvent(time=START, log=log))
    assert event is not None
    return event


def test_an_earlier_attempt_is_not_heard_any_more(ports: Ports) -> None:
    """A worker that slept wakes with things to say: the job is further than that."""
    for attempt in (1, 2):
        assert ports.events.append("j", JobEvent(time=START, attempt=attempt, log="x"))
    assert ports.events.append("j", JobEvent(time=START, attempt=1, log="late")) is None
    assert [event.attempt for event in ports.events.read("j")] == [1, 2]


def test_archived_events_are_dropped_but_for_the_newest(ports: Ports) -> None:
    """What was archived is noted; ids go on growing after it."""
    stored = [append(ports, "j", str(n)) for n in range(4)]
    assert ports.events.archived_through("j") == ""
    assert ports.events.ends("j") == (stored[0], stored[3])
    ports.events.mark_archived("j", through=stored[3].id, keep_from=stored[2].id)
    assert ports.events.archived_through("j") == stored[3].id
    assert ports.events.read("j") == stored[2:]
    ports.events.mark_archived("j", through=stored[3].id, keep_from="")
    later = append(ports, "j", "4")
    assert ports.events.read("j", after=stored[3].id) == [later]
    ports.events.mark_archived("j", through=stored[1].id, keep_from=stored[1].id)
    assert ports.events.archived_through("j") == stored[3].id
    ports.events.expire("j", after_s=0)
    assert ports.events.ends("j") == (None, None)


@pytest.mark.parametrize("how", ["ended", "expired"])
def test_after_the_end_nothing_is_heard(ports: Ports, how: str) -> None:
    """Also of a job that was deleted, until one of its id begins anew."""
    append(ports, "j", "in time")
    if how == "ended":
        ends = JobEvent(time=START, attempt=1, state=JobState.FAILED)
        assert ports.events.append("j", ends) is not None
        ports.index.delete("j")
    else:
        ports.events.expire("j", after_s=0)
    late = JobEvent(time=START, attempt=2, log="late")
    assert ports.events.append("j", late) is None
    assert "late" not in [event.log for event in ports.events.read("j")]
    begins = JobEvent(time=START, state=JobState.QUEUED)
    if how == "expired":
        assert ports.events.append("j", begins) is not None
        assert ports.events.append("j", late) is not None


def test_no_key_of_a_job_stays_for_ever(valkey: Valkey) -> None:
    """Whatever becomes of a job, what its events left in Redis runs out by itself."""
    client = connect(valkey.settings)
    client.flushall()
    events = RedisEventLog(client)
    stored = events.append("j", JobEvent(time=START, attempt=3, log="x"))
    assert stored is not None
    events.mark_archived("j", through=stored.id, keep_from="")
    events.append("j", JobEvent(time=START, attempt=3, state=JobState.FAILED))
    keys = client.keys("histill:job:j:*")
    assert isinstance(keys, list)
    assert len(keys) == 4
    assert all(client.ttl(key) > 0 for key in keys)


def test_an_event_of_a_newer_version_is_passed_over(valkey: Valkey) -> None:
    """Its id counts, so that nobody reads it again and again; all others are read."""
    client = connect(valkey.settings)
    client.flushall()
    events = RedisEventLog(client)
    events.append("j", JobEvent(time=START, log="known"))
    strange = JobEvent(time=START, log="x").model_dump_json()[:-1] + ', "colour": 7}'
    strange_id = client.xadd("histill:job:j:events", {"event": strange})
    assert [event.log for event in events.read("j")] == ["known"]
    first, last = events.ends("j")
    assert first is not None
    assert last is not None
    assert (first.log, last.log, last.id) == ("known", None, strange_id)
    found = events.follow({"j": "", "k": ""}, wait_s=1)["j"]
    assert [(event.log, event.id) for event in found][1:] == [(None, strange_id)]


def test_many_jobs_are_followed_at_once(ports: Ports) -> None:
    """What is there comes at once; else the first event ends the wait, or the time does."""
    first = append(ports, "j", "0")
    assert ports.events.follow({"j": "", "k": ""}, wait_s=5) == {"j": [first]}
    assert ports.events.follow({"j": first.id, "k": ""}, wait_s=0.05) == {}

    def later() -> None:
        time.sleep(0.1)
        ports.events.append("k", JobEvent(time=START, log="1"))

    thread = threading.Thread(target=later)
    thread.start()
    found = ports.events.follow({"j": first.id, "k": ""}, wait_s=10)
    thread.join()
    assert [event.log for event in found["k"]] == ["1"]


def test_a_lock_that_is_held_says_so(ports: Ports) -> None:
    """Its holder may go on."""
    with ports.index.lock("j") as held:
        held()


def test_one_lease_at_a_time_with_a_growing_fence(ports: Ports) -> None:
    """A held lease keeps others out; each new one has a larger number."""
    first = ports.live.acquire_lease("j", "a", ttl_s=30, floor=0)
    assert first is not None
    assert ports.live.acquire_lease("j", "b", ttl_s=30, floor=0) is None
    seen = ports.live.leases(["j", "k"])
    assert list(seen) == ["j"]
    assert seen["j"].ttl_s == 30
    assert ports.live.renew_lease("j", "a", first, ttl_s=30)
    assert ports.live.leases(["j"])["j"].token != seen["j"].token
    assert not ports.live.renew_lease("j", "b", first, ttl_s=30)
    ports.live.release_lease("j", "b", first)
    assert ports.live.leases(["j"])
    ports.live.release_lease("j", "a", first)
    assert ports.live.leases(["j"]) == {}
    second = ports.live.acquire_lease("j", "b", ttl_s=30, floor=0)
    assert second is not None
    assert second > first
    ports.live.release_lease("j", "b", second)
    # A record that has seen a larger number than Redis remembers sets the floor.
    assert ports.live.acquire_lease("j", "c", ttl_s=30, floor=70) == 71


def test_a_revoked_lease_never_comes_back(ports: Ports) -> None:
    """Only one that stands as it was seen is revoked; its holder can do nothing then."""
    fence = ports.live.acquire_lease("j", "a", ttl_s=30, floor=0)
    assert fence is not None
    seen = ports.live.leases(["j"])["j"].token
    ports.live.renew_lease("j", "a", fence, ttl_s=30)
    assert not ports.live.revoke_lease("j", seen, floor=0)
    assert not ports.live.revoke_lease("j", "", floor=0)
    assert ports.live.revoke_lease("j", ports.live.leases(["j"])["j"].token, floor=0)
    assert not ports.live.renew_lease("j", "a", fence, ttl_s=30)
    assert not ports.live.restore_lease("j", "a", fence, ttl_s=30)
    assert ports.live.revoke_lease("k", "", floor=7)
    assert ports.live.acquire_lease("k", "b", ttl_s=30, floor=7) == 9


def test_a_lease_that_redis_lost_is_restored_unless_another_was_faster(ports: Ports) -> None:
    """A later number keeps the old holder out for good."""
    assert ports.live.restore_lease("j", "a", 5, ttl_s=30)
    assert ports.live.renew_lease("j", "a", 5, ttl_s=30)
    assert not ports.live.restore_lease("j", "b", 6, ttl_s=30)
    ports.live.release_lease("j", "a", 5)
    assert ports.live.acquire_lease("j", "c", ttl_s=30, floor=5) == 6
    ports.live.release_lease("j", "c", 6)
    assert not ports.live.restore_lease("j", "a", 5, ttl_s=30)


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


def test_projects_count_apart(ports: Ports) -> None:
    """Two projects may use one name: neither's numbers tell of the other's."""
    mine, theirs = numbered(ports.versions, "acme"), numbered(ports.versions, "zenith")
    assert [mine.next("models/m", at_least=1) for _ in range(3)] == [1, 2, 3]
    assert theirs.next("models/m", at_least=1) == 1
    assert numbered(ports.versions, DEFAULT).next("models/m", at_least=1) == 1
    assert mine.next("models/m", at_least=9) == 9
    mine.ping()
    with pytest.raises(InvalidArgumentError, match=r"^project: "):
        numbered(ports.versions, "a/b")


def test_the_queue_counts_what_waits(ports: Ports) -> None:
    """Each submitted id is one waiting message."""
    pools = ("default", "gpu", "empty")
    assert ports.queue.depth(pools) == 0
    ports.queue.submit("a", priority=0, pool="default")
    ports.queue.submit("b", priority=9, pool="default")
    ports.queue.submit("c", priority=9, pool="gpu")
    assert ports.queue.depth(pools) == 3
    assert ports.queue.waiting(pools) == {"a", "b", "c"}
    assert (ports.queue.depth(["default"]), ports.queue.depth(["gpu"])) == (2, 1)
    assert ports.queue.waiting(["gpu"]) == {"c"}


def test_a_lock_whose_holder_died_is_broken_whatever_the_clock_says(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of Redis jumped back: the lock would stand for an hour."""
    client = connect(valkey.settings)
    monkeypatch.setattr("histill.adapters.redis_jobs._LOCK_S", 0.3)
    client.set("histill:job:stuck:lock", "the dead one", px=3_600_000)
    with RedisJobIndex(client).lock("stuck") as held:
        held()


def test_a_leader_that_stands_still_is_followed_by_another(valkey: Valkey) -> None:
    """Its key would stand for an hour; one that beats is left alone."""
    client = connect(valkey.settings)
    client.delete("histill:reaper")
    first, second = RedisLiveState(client), RedisLiveState(client)
    assert first.lead("a", ttl_s=0.3)
    client.pexpire("histill:reaper", 3_600_000)
    for _ in range(4):
        assert not second.lead("b", ttl_s=0.3)
        assert first.lead("a", ttl_s=0.3)
        client.pexpire("histill:reaper", 3_600_000)
        time.sleep(0.15)
    assert not second.lead("b", ttl_s=0.3)
    time.sleep(0.4)
    assert second.lead("b", ttl_s=0.3)
    assert not first.lead("a", ttl_s=0.3)


def test_a_lease_runs_out(valkey: Valkey) -> None:
    """A holder that stops renewing loses the lease, and its number with it."""
    live = RedisLiveState(connect(valkey.settings))
    fence = live.acquire_lease("short", "a", ttl_s=0.05, floor=0)
    assert fence is not None
    time.sleep(0.1)
    assert live.leases(["short"]) == {}
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
        CeleryJobQueue.connect(away).submit("j", priority=0, pool="default")


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
