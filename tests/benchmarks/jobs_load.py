"""The jobs service under load: creations, a long queue, many watchers, a restart.

``make bench-jobs`` prints the tables that ARCHITECTURE.md quotes. Everything runs on this
machine: service, Valkey, S3 server and the load itself share its cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conftest import end, run_s3, run_valkey
from histill.adapters.redis_client import connect
from histill.adapters.redis_events import RedisEventLog
from histill.adapters.redis_jobs import RedisJobIndex
from histill.adapters.s3 import S3ObjectStore
from histill.api.distillation.v1 import job_pb2
from histill.core.events import JobEvent
from histill.core.settings import S3Settings
from pictures import write_dataset
from services import Service, client_of, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from conftest import S3, Valkey
    from histill.client import Client

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CHANNELS = 8


@dataclass
class World:
    """What runs, and how to reach it."""

    client: Client
    jobs: Service
    redis: Valkey
    s3: S3


def spec() -> dict[str, Any]:
    """A job that no worker will ever take here."""
    return {"supervised": {"dataset": "discs@1", "output_model": "student"}}


def quantiles(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and worst, in milliseconds."""
    ordered = sorted(seconds)
    at99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return (
        f"p50 {1000 * statistics.median(ordered):7.1f}   p99 {1000 * at99:7.1f}   "
        f"worst {1000 * ordered[-1]:7.1f} ms"
    )


def say(text: str) -> None:
    """Prints one line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def create_paced(world: World, *, rate: float, seconds: float) -> None:
    """Creations that come at a fixed rate, whatever the answers take (an open loop)."""
    count = int(rate * seconds)
    latencies: list[float] = []
    start = time.monotonic() + 0.2

    def one(index: int) -> None:
        due = start + index / rate
        time.sleep(max(0.0, due - time.monotonic()))
        world.client.jobs.submit(spec(), request_id=uuid.uuid4().hex)
        latencies.append(time.monotonic() - due)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one, range(count)))
    took = time.monotonic() - start
    say(f"  {rate:5.0f}/s asked, {count / took:5.0f}/s done   {quantiles(latencies)}")


def fill(world: World, total: int) -> None:
    """Creates jobs as fast as they are taken, until so many wait."""
    missing = total - len(RedisJobIndex(connect(world.redis.settings)).queued())
    start = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: world.client.jobs.submit(spec()), range(max(0, missing))))
    took = time.monotonic() - start
    say(f"  {missing} created in {took:.1f} s: {missing / took:.0f}/s")


def lists(world: World, label: str) -> None:
    """Pages and single jobs."""
    page, one, rare = [], [], []
    first = next(world.client.jobs.list())
    for _ in range(50):
        start = time.monotonic()
        jobs = world.client.jobs.list()
        for _ in range(50):
            next(jobs)
        page.append(time.monotonic() - start)
        start = time.monotonic()
        world.client.jobs.get(first.name)
        one.append(time.monotonic() - start)
        start = time.monotonic()
        list(world.client.jobs.list(states=(job_pb2.JOB_STATE_FAILED,)))
        rare.append(time.monotonic() - start)
    say(f"  {label}: a page of 50     {quantiles(page)}")
    say(f"  {label}: one job          {quantiles(one)}")
    say(f"  {label}: a rare state     {quantiles(rare)}")


def watchers(  # noqa: C901 - one measurement, told in order
    world: World, count: int, *, events: int, jobs: int
) -> None:
    """Watchers spread over some jobs; the time from an event to each watcher."""
    names = [job.name for _, job in zip(range(jobs), world.client.jobs.list(), strict=False)]
    log = RedisEventLog(connect(world.redis.settings))
    arrivals: list[float] = []
    run = uuid.uuid4().hex
    sent: dict[tuple[str, str], float] = {}
    ready = threading.Semaphore(0)
    clients = [client_of(world.jobs) for _ in range(_CHANNELS)]

    def watch(index: int) -> None:
        name = names[index % len(names)]
        seen = 0
        for event in clients[index % _CHANNELS].jobs.watch(name):
            now = time.monotonic()
            if event.log.startswith(run):
                arrivals.append(now - sent[name, event.log])
                seen += 1
                if seen == events:
                    return
            else:
                ready.release()

    threads = [threading.Thread(target=watch, args=(i,), daemon=True) for i in range(count)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for _ in range(count):
        ready.acquire(timeout=60)
    joined = time.monotonic() - start
    before = cpu_seconds(world.jobs)
    time.sleep(5)
    idle = (cpu_seconds(world.jobs) - before) / 5
    for beat in range(events):
        for name in names:
            sent[name, f"{run} beat {beat}"] = time.monotonic()
            log.append(name.removeprefix("jobs/"), JobEvent(time=NOW, log=f"{run} beat {beat}"))
        time.sleep(0.5)
    for thread in threads:
        thread.join(60)
    lost = count * events - len(arrivals)
    say(
        f"  {count} watchers of {jobs} jobs: all watch after {joined:.1f} s; idle they cost "
        f"{100 * idle:.0f} % of a core; lost events {lost}\n      an event arrives after "
        f"{quantiles(arrivals)}"
    )
    for client in clients:
        client.close()


def cpu_seconds(running: Service) -> float:
    """What a process has computed so far."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(running: Service) -> float:
    """What a process holds (Linux: VmRSS)."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    """Runs everything once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--watchers", type=int, default=500)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="histill-load-")))
        redis, s3 = run_valkey(root / "valkey"), run_s3(root / "s3")
        stack.callback(end, redis.server)
        stack.callback(end, s3.server)
        own = settings_of(s3.settings, redis.settings) | {"HISTILL_LOG__LEVEL": "warning"}
        own |= {"HISTILL_S3__TIMEOUT_S": "10"}
        registry = stack.enter_context(service("registry", root, own))
        with service("jobs", root, own) as jobs:
            registry.wait()
            jobs.wait()
            client = stack.enter_context(client_of(jobs, registry))
            client.datasets.push(write_dataset(root / "discs"), name="discs")
            world = World(client, jobs, redis, s3)
            say(f"{os.cpu_count()} cores, shared by service, Valkey, S3 server and this load\n")
            client.jobs.submit(spec())
            small = memory_mb(jobs)
            say("creations, an open loop")
            for rate in (25, 50, 100, 150, 200):
                create_paced(world, rate=rate, seconds=5)
            lists(world, f"{sum(1 for _ in client.jobs.list()):6} jobs")
            say("the queue is filled")
            fill(world, arguments.jobs)
            lists(world, f"{arguments.jobs:6} jobs")
            create_paced(world, rate=50, seconds=5)
            before = cpu_seconds(jobs)
            time.sleep(30)
            say(
                f"  idle, {arguments.jobs} queued: {100 * (cpu_seconds(jobs) - before) / 30:.1f} % "
                f"of a core; memory {small:.0f} MB before, {memory_mb(jobs):.0f} MB now"
            )
            say("watchers")
            watchers(world, arguments.watchers, events=10, jobs=1)
            watchers(world, arguments.watchers, events=10, jobs=arguments.watchers)
            say(f"  memory {memory_mb(jobs):.0f} MB")
        for what in ("Redis kept", "Redis lost"):
            if what == "Redis lost":
                connect(redis.settings).flushall()
            start = time.monotonic()
            with service("jobs", root, own) as again:
                again.wait(seconds=600)
                say(f"restart with {arguments.jobs} jobs, {what}: {time.monotonic() - start:.1f} s")
        objects = S3ObjectStore.connect(
            S3Settings.model_validate(s3.settings.model_dump() | {"bucket": "histill"})
        )
        say(f"{sum(1 for _ in objects.list('jobs/'))} objects of jobs in S3")


if __name__ == "__main__":
    main()
