"""The index of jobs in a real Redis: what other versions, other replicas and lost answers leave."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from redis.connection import Connection
from redis.exceptions import ConnectionError as RedisConnectionError

from fakes import MemoryEvents, MemoryObjects
from histill.adapters.redis_client import connect
from histill.adapters.redis_jobs import RedisJobIndex
from histill.core.errors import QueueUnavailableError
from histill.core.job_store import JobStore
from histill.core.jobs import Job, JobKind, JobState, Origin
from histill.core.names import new_job_id
from histill.core.pools import PoolLoad
from histill.core.specs import SupervisedSpec
from histill.jobs.mending import mend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from conftest import Valkey

START = datetime(2026, 1, 1, tzinfo=UTC)
RECORDS = "histill:job-records"


class World:
    """A store of jobs over a real Redis."""

    def __init__(self, client: Redis) -> None:
        self.client: Any = client
        self.objects = MemoryObjects()
        self.index = RedisJobIndex(client)
        self.jobs = self.replica(self.objects)

    def replica(self, objects: MemoryObjects) -> JobStore:
        return JobStore(objects, RedisJobIndex(self.client), MemoryEvents(), lambda: START)

    def add(self, **fields: Any) -> Job:
        spec = SupervisedSpec(dataset="d", output_model="m")
        return self.jobs.create(Job(id=new_job_id(), spec=spec, create_time=START, **fields))

    def move(self, job: Job, state: JobState) -> Job:
        return self.jobs.update(job.id, lambda now: now.moved_to(state, at=START))

    def age(self) -> None:
        """Makes of the index one of a version that had no pools and other words for a record."""
        for job_id in self.client.hkeys(RECORDS):
            record = json.loads(self.client.hget(RECORDS, job_id))
            record.pop("pool", None)
            record.pop("origin", None)
            text = json.dumps(record, indent=1)
            self.client.hset(RECORDS, job_id, text)
            self.objects.put(f"jobs/{job_id}/job.json", text.encode())
        keys = self.client.keys("histill:job*pool*")
        self.client.delete(*keys, "histill:jobs-built:3")


@pytest.fixture
def world(valkey: Valkey) -> World:
    """An empty one whose index is built."""
    client = connect(valkey.settings)
    client.flushall()
    made = World(client)
    made.jobs.rebuild()
    return made


def loads(world: World) -> PoolLoad:
    """What the pool ``default`` has to do."""
    return world.index.pools()["default"]


def test_an_index_of_an_older_layout_is_filled(world: World) -> None:
    """All its records are there already, in its own words, which stay."""
    origin = Origin(request_id="1234")
    waiting, running = world.add(origin=origin), world.add(origin=origin)
    world.move(running, JobState.RUNNING)
    world.age()
    before = world.client.hgetall(RECORDS)
    assert world.index.pools() == {}
    assert world.jobs.rebuild() == 2
    assert world.index.is_built()
    assert loads(world) == PoolLoad(1, 1, START)
    assert world.index.running_since()[JobKind.SUPERVISED] == {running.id: START}
    assert world.client.hgetall(RECORDS) == before
    world.move(waiting, JobState.CANCELLED)
    assert world.index.take_ended() == {(JobKind.SUPERVISED, JobState.CANCELLED): 1}


def test_a_record_in_other_words_is_the_same_one(world: World) -> None:
    """Whoever saves it is not told that another writer was faster, and its sets are there."""
    job = world.add(request_id="key")
    world.age()
    assert world.index.save(job)
    assert loads(world) == PoolLoad(1, 0, START)
    assert not world.index.save(job.model_copy(update={"display_name": "other"}))
    assert world.index.get(job.id) == job


def test_the_record_that_is_kept_says_where_a_job_is(world: World) -> None:
    """Of two of one revision the first one stays, in all that is told of it."""
    job = world.add(pool="gpu")
    first = job.moved_to(JobState.RUNNING, at=START, revision=1)
    assert world.index.save(first)
    assert not world.index.save(job.moved_to(JobState.CANCELLED, at=START, revision=1))
    assert world.index.pools() == {"gpu": PoolLoad(0, 1)}
    assert world.index.unclosed() == world.index.queued() == set()


def leave_behind(world: World) -> None:
    """What a version without pools leaves: one job ended, one deleted, one begun."""
    ended, deleted, begun = world.add(), world.add(), world.add()
    pools = world.client.keys("histill:jobs-of-pool:*")
    before = {name: dict(world.client.zrange(name, 0, -1, withscores=True)) for name in pools}
    world.move(ended, JobState.CANCELLED)
    world.move(deleted, JobState.CANCELLED)
    world.jobs.delete(deleted.id)
    world.move(begun, JobState.RUNNING)
    world.client.delete(*world.client.keys("histill:jobs-of-pool:*"))
    for name, members in before.items():
        world.client.zadd(name, members)
    assert loads(world) == PoolLoad(3, 0, START)


def test_a_rebuild_drops_what_is_open_no_more(world: World) -> None:
    """Workers would be kept for jobs that ended, or that are gone."""
    leave_behind(world)
    world.jobs.rebuild()
    assert loads(world) == PoolLoad(0, 1)


def test_sums_that_differ_are_noticed_and_put_right(world: World) -> None:
    """Without S3, and past a record that only a later version can read; else nothing is done."""
    assert not mend(world.index)
    leave_behind(world)
    strange = world.add()
    world.client.hset(RECORDS, strange.id, '{"spec": "of a later version"}')
    assert mend(world.index)
    assert loads(world) == PoolLoad(1, 1, START)
    assert not mend(world.index)


class Slow(MemoryObjects):
    """A store whose jobs are listed when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def list_folders(self, prefix: str) -> Iterator[str]:
        self.asked.set()
        assert self.go_on.wait(30)
        return super().list_folders(prefix)


def test_two_replicas_rebuild_at_once_and_each_of_them_ends(world: World) -> None:
    """Whoever began later, and whoever ends first."""
    first, second = Slow(), Slow()
    ended = []

    def build(objects: Slow) -> None:
        world.replica(objects).rebuild()
        ended.append(objects)

    world.client.flushall()
    threads = [threading.Thread(target=build, args=[objects]) for objects in (first, second)]
    for thread, objects in zip(threads, (first, second), strict=True):
        thread.start()
        assert objects.asked.wait(30)
    for thread, objects in zip(threads, (first, second), strict=True):
        objects.go_on.set()
        thread.join()
        assert ended[-1:] == [objects]
        assert world.index.is_built()


def test_a_build_that_broke_off_leaves_nothing_for_ever(world: World) -> None:
    """Its mark runs out; until then who asks again, having had no answer, is told the same."""
    build = world.index.begin_build()
    assert world.index.mark_built(build)
    assert world.index.mark_built(build)
    keys = world.client.keys("histill:jobs-building:*")
    assert len(keys) == 2
    assert all(0 < world.client.ttl(key) <= 86400 for key in keys)
    assert not world.index.mark_built("another")


def test_a_job_that_begins_anew_in_one_step_runs_since_then(world: World) -> None:
    """Whoever takes over a lost worker's job puts it back and begins it in one change."""
    running = world.add().moved_to(JobState.RUNNING, at=START, revision=1)
    world.index.save(running)
    later = START + timedelta(hours=5)
    queued = running.moved_to(JobState.QUEUED, at=later)
    world.index.save(queued.moved_to(JobState.RUNNING, at=later, revision=2))
    assert world.index.running_since()[JobKind.SUPERVISED] == {running.id: later}


@pytest.mark.parametrize("lost", [1, 20], ids=["one", "all"])
def test_endings_whose_answer_was_lost_are_told_once(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Whether the client asks again by itself, or gives up and is asked again later."""
    world.move(world.add(), JobState.CANCELLED)
    left = lost
    read = Connection.read_response

    def cut(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal left
        answer = read(self, *args, **options)
        if isinstance(answer, list) and "SUPERVISED:CANCELLED" in answer and left:
            left -= 1
            self.disconnect()
            raise RedisConnectionError("the answer was lost")
        return answer

    monkeypatch.setattr(Connection, "read_response", cut)
    if lost > 1:
        with pytest.raises(QueueUnavailableError):
            world.index.take_ended()
        left = 0
    assert world.index.take_ended() == {(JobKind.SUPERVISED, JobState.CANCELLED): 1}
    world.move(world.add(), JobState.CANCELLED)
    assert world.index.take_ended() == {(JobKind.SUPERVISED, JobState.CANCELLED): 1}
    assert world.index.take_ended() == {}
    assert lost == 1 or left == 0
    assert world.client.keys("histill:jobs-ended*") == []
