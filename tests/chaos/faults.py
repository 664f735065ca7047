"""The ways in which the system is broken; each ends, and says what it hit."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaos.system import LEASE_S, SERVICES, WORKERS, until
from histill.adapters.redis_client import job_key
from histill.api.distillation.v1 import job_pb2
from histill.core.errors import (
    FailedPreconditionError,
    HistillError,
    NotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from chaos.proxy import Mode
    from chaos.system import System

_BACK_S = 90.0
_HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Fault:
    """One way to break it.

    Attributes:
        name: What it is.
        inject: Does it, and undoes it; the system may be behind for a while after.
    """

    name: str
    inject: Callable[[System, random.Random], None]


def _kill_service(name: str) -> Callable[[System, random.Random], None]:
    def inject(system: System, _: random.Random) -> None:
        system.processes[name].signal(signal.SIGKILL)
        system.processes[name].start()
        until(lambda: system.ready(name), seconds=_BACK_S, what=f"the return of {name}")

    return inject


def _kill_worker(system: System, _: random.Random) -> None:
    """The one that has work, and its scratch folder with it; it comes back."""
    name = _busy_worker(system)
    system.processes[name].signal(signal.SIGKILL)
    system.processes[name].start()


def _busy_worker(system: System) -> str:
    redis = system.redis()
    holders = [str(redis.get(key)).split(":") for key in _leases(system)]
    numbers = {holder[1] for holder in holders if len(holder) > 1}
    for name in WORKERS:
        process = system.processes[name].process
        if process and str(process.pid) in numbers:
            return name
    return WORKERS[0]


def _leases(system: System) -> list[str]:
    found: Any = system.redis().keys(job_key("*", "lease"))
    return list(found)


def _kill_trainer(system: System, _: random.Random) -> None:
    for number in system.trainers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def _freeze_worker(system: System, _: random.Random) -> None:
    """Long enough for another worker to take its job, then it wakes and believes to own it."""
    name = _busy_worker(system)
    system.processes[name].signal(signal.SIGSTOP)
    time.sleep(2.5 * LEASE_S)
    system.processes[name].signal(signal.SIGCONT)


def _freeze_jobs(system: System, _: random.Random) -> None:
    system.processes["jobs"].signal(signal.SIGSTOP)
    time.sleep(4)
    system.processes["jobs"].signal(signal.SIGCONT)


def _kill_valkey(*, data: bool) -> Callable[[System, random.Random], None]:
    def inject(system: System, random: random.Random) -> None:
        system.kill_valkey(data=data)
        time.sleep(random.uniform(0, 3))
        system.start_valkey()

    return inject


def _freeze_valkey(system: System, _: random.Random) -> None:
    """It keeps its connections and answers nobody: all who ask it wait."""
    system.signal_valkey(signal.SIGSTOP)
    time.sleep(8)
    system.signal_valkey(signal.SIGCONT)


def _cancel(system: System, _: random.Random) -> None:
    """The job that runs; whether it ends before that is a matter of chance."""

    def cancelled(name: str) -> None:
        system.cancelled.add(name)
        with contextlib.suppress(FailedPreconditionError):
            system.client().jobs.cancel(name)

    _with_oldest(system, job_pb2.JOB_STATE_RUNNING, cancelled)


def _delete(system: System, _: random.Random) -> None:
    """A job that has succeeded, while others run; its model stays."""

    def deleted(name: str) -> None:
        with contextlib.suppress(NotFoundError):  # an earlier try was heard, not its answer
            system.client().jobs.delete(name)
        system.deleted.add(name)

    _with_oldest(system, job_pb2.JOB_STATE_SUCCEEDED, deleted)


def _with_oldest(
    system: System, state: job_pb2.JobState.ValueType, change: Callable[[str], None]
) -> None:
    """Changes the oldest job of a state, however often that takes."""
    names: list[str] = []

    def done() -> bool:
        try:
            names.extend([] if names else _names(system, state)[-1:])
            for name in names:
                change(name)
        except UnavailableError:
            return False
        return bool(names)

    until(done, seconds=_BACK_S, what="a change of a job")


def _names(system: System, state: job_pb2.JobState.ValueType) -> list[str]:
    return [job.name for job in system.client().jobs.list(states=(state,))]


def _s3(mode: Mode, seconds: float) -> Callable[[System, random.Random], None]:
    def inject(system: System, _: random.Random) -> None:
        system.s3_proxy.mode = mode
        time.sleep(seconds)
        system.s3_proxy.mode = "pass"

    return inject


def _clock_back(system: System, _: random.Random) -> None:
    """The clock of Redis jumps back an hour, and the worker dies: its lease outlives it."""
    name = _busy_worker(system)
    system.processes[name].signal(signal.SIGKILL)
    for key in _leases(system):
        system.redis().pexpire(key, _HOUR_MS)
    system.processes[name].start()


def _clock_forward(system: System, _: random.Random) -> None:
    """The clock of Redis jumps an hour: every lease runs out while its holder lives."""
    for key in _leases(system):
        system.redis().delete(key)


def _redeliver(system: System, _: random.Random) -> None:
    """The broker delivers every open job's message again, as Celery over Redis may."""
    from histill.adapters.celery_queue import CeleryJobQueue
    from histill.core.settings import RedisSettings

    queue = CeleryJobQueue.connect(RedisSettings.model_validate({"url": system.url}))
    for key in _leases(system):
        queue.submit(key.split(":")[2], priority=9, pool="default")


def _lose_messages(system: System, _: random.Random) -> None:
    """What waits in the queue is gone."""
    waiting: Any = system.redis().keys("histill:celery:histill*")
    for key in waiting:
        system.redis().delete(key)


def _cut_upload(folder: Path) -> Callable[[System, random.Random], None]:
    """An upload's connection is cut in the middle; the next try succeeds, once."""

    def inject(system: System, random: random.Random) -> None:
        client = system.client(registry_port=system.registry_proxy.port)
        before = len(list(client.datasets.list()))
        system.registry_proxy.cut_after = random.randrange(2_000, 40_000)
        with contextlib.suppress(HistillError):
            client.datasets.push(folder, name="cut")
            before += 1  # it was cut after its last byte had gone through
        system.registry_proxy.cut_after = None
        client.datasets.push(folder, name="cut")
        after = len(list(client.datasets.list()))
        if after not in {before + 1, before + 2}:
            raise AssertionError(f"{after} datasets after {before} and one upload")

    return inject


def every_fault(folder: Path) -> list[Fault]:
    """All of them, the most telling first.

    Args:
        folder: Of a dataset, for uploads that are cut.
    """
    return [
        Fault("worker killed", _kill_worker),
        Fault("worker frozen past its lease", _freeze_worker),
        Fault("trainer killed", _kill_trainer),
        Fault("Valkey killed, data lost", _kill_valkey(data=False)),
        Fault("every message redelivered", _redeliver),
        Fault("S3 is full", _s3("full", 4)),
        Fault("Valkey frozen", _freeze_valkey),
        Fault("a running job cancelled", _cancel),
        Fault("an ended job deleted", _delete),
        Fault("Valkey killed, data kept", _kill_valkey(data=True)),
        Fault("S3 refuses", _s3("refuse", 4)),
        Fault("S3 hangs", _s3("hang", 6)),
        Fault("S3 is slow", _s3("slow", 6)),
        Fault("Redis' clock jumps back, worker dies", _clock_back),
        Fault("Redis' clock jumps forward", _clock_forward),
        Fault("every message lost", _lose_messages),
        Fault("jobs service frozen", _freeze_jobs),
        *(Fault(f"{name} killed", _kill_service(name)) for name in SERVICES),
        Fault("upload cut in the middle", _cut_upload(folder)),
    ]
