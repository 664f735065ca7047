"""The contracts of the search through Redis and of workers' words, on the real server and fakes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from fakes import MemoryHoldings, MemoryTraces
from histill.adapters.celery_queue import CeleryJobQueue
from histill.adapters.redis_client import connect
from histill.adapters.redis_holdings import RedisHoldings
from histill.adapters.redis_traces import RedisTraces
from histill.core.names import new_job_id
from histill.core.ports import Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Valkey
    from histill.core.ports import Holdings, Traces

# Keys with members, in the words that both understand.
_HELD = {
    "histill:quartz:a": {"": "nothing"},
    "histill:plain": {"": "of quartz"},
    "histill:fields": {"first": "quartz", "second": "clean"},
    "histill:clean": {"": "clean"},
}


@pytest.fixture(params=["redis", "memory"])
def filled(request: pytest.FixtureRequest) -> tuple[Traces, Callable[[], set[str]]]:
    """One implementation after the other, filled, and its keys."""
    if request.param == "memory":
        made = MemoryTraces({key: dict(members) for key, members in _HELD.items()})
        return made, lambda: set(made.values)
    client: Any = connect(request.getfixturevalue("valkey").settings)
    client.flushall()
    for key, members in _HELD.items():
        if "" in members:
            client.set(key, members[""])
        else:
            client.hset(key, mapping=members)
    return RedisTraces(client), lambda: set(client.keys("histill:*"))


def test_names_and_values_are_found_and_erased(
    filled: tuple[Traces, Callable[[], set[str]]],
) -> None:
    """A key that is named so goes whole, and of other keys the members; the rest stays."""
    traces, keys = filled
    number, found = traces.find(lambda text: "quartz" in text)
    assert (number, {(each.key, each.member) for each in found}) == (
        4,
        {("histill:quartz:a", ""), ("histill:plain", ""), ("histill:fields", "first")},
    )
    assert traces.erase(found) == 3
    assert traces.erase(found) == 0
    assert keys() == {"histill:fields", "histill:clean"}
    assert traces.find(lambda text: "quartz" in text) == (2, [])


def test_every_type_is_searched(valkey: Valkey) -> None:
    """Lists, sets, sorted sets, streams of any length, and messages in the queue."""
    client: Any = connect(valkey.settings)
    client.flushall()
    client.rpush("histill:list", "a", "quartz", "b")
    client.sadd("histill:set", "a", "quartz")
    client.zadd("histill:zset", {"a": 0, "quartz": 1})
    for index in range(1200):
        client.xadd("histill:stream", {"event": "quartz" if index == 1100 else "a"})
    client.set("elsewhere", "quartz")
    job = new_job_id()
    CeleryJobQueue.connect(valkey.settings).submit(job, priority=3, pool="default")
    traces = RedisTraces(client)
    found = traces.find(lambda text: "quartz" in text)[1]
    assert {each.key for each in found} == {
        f"histill:{t}" for t in ("list", "set", "zset", "stream")
    }
    assert traces.erase(found) == 4
    queued = traces.find(lambda text: job in text)[1]
    assert len(queued) == 1
    assert traces.erase(queued) == 1
    assert CeleryJobQueue.connect(valkey.settings).waiting(["default"]) == set()
    assert client.llen("histill:list") == 2
    assert client.xlen("histill:stream") == 1199


@pytest.fixture(params=["redis", "memory"])
def holdings(request: pytest.FixtureRequest) -> Holdings:
    """One implementation after the other, empty."""
    if request.param == "memory":
        return MemoryHoldings()
    client = connect(request.getfixturevalue("valkey").settings)
    client.flushall()
    return RedisHoldings(client)


def test_workers_tell_what_they_hold(holdings: Holdings) -> None:
    """The last word counts; a worker that holds nothing is known all the same."""
    assert (holdings.asked(), holdings.told()) == (0, {})
    assert [holdings.ask(), holdings.ask(), holdings.asked()] == [1, 2, 2]
    holdings.tell("a", Told(1, frozenset({"default/d@1", "jobs/x"})), ttl_s=60)
    holdings.tell("a", Told(2, frozenset({"default/d@1"})), ttl_s=60)
    holdings.tell("b", Told(0, frozenset()), ttl_s=60)
    assert holdings.told() == {
        "a": Told(2, frozenset({"default/d@1"})),
        "b": Told(0, frozenset()),
    }
    holdings.leave("b")
    assert set(holdings.told()) == {"a"}


def test_a_worker_that_is_silent_runs_out(valkey: Valkey) -> None:
    """It counts as living for so long, and no longer."""
    client = connect(valkey.settings)
    client.flushall()
    told = RedisHoldings(client)
    told.tell("a", Told(0, frozenset()), ttl_s=0.2)
    assert set(told.told()) == {"a"}
    time.sleep(0.4)
    assert told.told() == {}
