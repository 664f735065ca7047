"""Replicas are replaced, age and die while clients call: who notices, and who does not."""

from __future__ import annotations

import re
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from callers import calling
from histill.client import Client, ClientSettings
from inference_calls import of_one_model, png, raw, sdk
from pictures import blobs
from replicas import Replicas
from services import KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from callers import Calls
    from conftest import S3
    from services import Service

pytestmark = pytest.mark.timeout(300)

# A third of it is the longest life of a connection, two thirds are for clients to hear.
LINGER_S = 6.0
# One way: calls are so long on their way to a server that may stop meanwhile.
AWAY_S = 0.05
CALLERS = 8


@pytest.fixture(scope="module")
def variables(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Settings of the service."""
    return of_one_model(s3, tmp_path_factory.mktemp("student"))


@contextmanager
def loaded(
    folder: Path, variables: dict[str, str], *, away_s: float = 0.0, strangers: int = CALLERS
) -> Iterator[tuple[Replicas, Calls, Calls]]:
    """Two replicas, and the calls of a client that never tries again, and of our own."""
    with ExitStack() as stack:
        replicas = stack.enter_context(Replicas("inference", folder, variables, away_s))
        replicas.add()
        replicas.add()
        others, ours = (
            stack.enter_context(calling(stack.enter_context(client), callers=callers))
            for client, callers in (
                (raw(replicas.target), strangers),
                (sdk(replicas.target), CALLERS),
            )
        )
        for calls in (others, ours):
            calls.wait_for(50)
        yield replicas, others, ours
        for calls in (others, ours):
            calls.wait_for(100)


def answered(replica: Service) -> int:
    """Calls that a replica has answered with success."""
    lines = replica.log.read_text().splitlines()
    return sum("Segment" in each or "ModelInfer" in each for each in lines if "OK" in each)


def test_a_rolling_restart_fails_no_call(tmp_path: Path, variables: dict[str, str]) -> None:
    """Not even far away, of a client that never tries again; and the new replicas take over."""
    lingering = variables | {"HISTILL_SERVER__LINGER_S": str(LINGER_S)}
    with loaded(tmp_path, lingering, away_s=AWAY_S) as (replicas, others, ours):
        codes = replicas.roll()
        new = list(replicas.live.values())
        before = [answered(each) for each in new]
    assert (others.failed, ours.failed) == ([], [])
    assert codes == [0, 0]
    assert all(answered(each) > then for each, then in zip(new, before, strict=True))


def test_without_lingering_calls_on_their_way_are_cancelled(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    """They meet a server that has stopped, unheard; our client makes them once more."""
    with loaded(tmp_path, variables, away_s=AWAY_S, strangers=3 * CALLERS) as those:
        replicas, others, ours = those
        assert replicas.roll() == [0, 0]
    assert "CANCELLED" in {words.split(":")[0] for words in others.failed}
    assert ours.failed == []


def test_a_killed_replica_fails_no_call_of_our_client(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    """Who does not try again loses what the replica was working on."""
    with loaded(tmp_path, variables) as (replicas, others, ours):
        replicas.lose(next(iter(replicas.live)))
    assert {words.split(":")[0] for words in others.failed} == {"UNAVAILABLE"}
    assert ours.failed == []


def test_connections_that_age_fail_no_call(tmp_path: Path, variables: dict[str, str]) -> None:
    """As they end, clients look up the name again, and so find replicas that are new."""
    young = variables | {"HISTILL_SERVER__CONNECTION__AGE_S": "0.5"}
    with loaded(tmp_path, young) as (replicas, others, ours):
        third, asked = replicas.add(), replicas.name.asked
        until = time.monotonic() + 30
        while not answered(third) or replicas.name.asked < asked + 5:
            assert time.monotonic() < until, "nobody has found the third replica"
            time.sleep(0.1)
    assert (others.failed, ours.failed) == ([], [])


def test_what_waits_and_what_streams_is_finished(tmp_path: Path, variables: dict[str, str]) -> None:
    """At SIGTERM a service answers all that is inside, also what has had no turn yet."""
    slide = np.tile(blobs(2, side=512)[0], (8, 8, 1))
    tile = png(slide[:700, :700])
    with ExitStack() as stack:
        one = variables | {"HISTILL_INFERENCE__WORKERS": "1"}
        replicas = stack.enter_context(Replicas("inference", tmp_path, one))
        replica = replicas.add()
        settings = {"inference": replicas.target, "api_key": KEY, "timeout_s": 120}
        client = stack.enter_context(Client(ClientSettings.model_validate(settings)))
        pool = stack.enter_context(ThreadPoolExecutor(10))
        regions = client.inference.regions(png(slide), model="nuclei")
        first = next(regions)
        waiting = [pool.submit(client.segment, tile, model="nuclei") for _ in range(10)]
        wait_until_started(replicas, replica, len(waiting))
        assert not any(each.done() for each in waiting[5:])
        replica.process.send_signal(signal.SIGTERM)
        summary = [first, *regions][-1]
        answers = [each.result() for each in waiting]
        assert replica.process.wait(60) == 0
    assert summary.height == len(slide)
    assert len({answer.mask for answer in answers}) == 1


def wait_until_started(replicas: Replicas, replica: Service, calls: int) -> None:
    """Returns when so many calls of Segment have met their handler."""
    counted = re.compile(r'grpc_server_started_total{[^}]*method="Segment"[^}]*} ([0-9.]+)')
    (address,) = replicas.live
    until = time.monotonic() + 30
    while True:
        url = f"http://{address}:{replica.metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as page:
            found = counted.search(page.read().decode())
        if found and float(found[1]) >= calls:
            return
        assert time.monotonic() < until
        time.sleep(0.02)
