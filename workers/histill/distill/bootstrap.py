"""Puts the worker together: the only place that constructs its clients."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from histill.adapters.ed25519 import load_signing
from histill.adapters.redis_client import connect
from histill.adapters.redis_events import RedisEventLog
from histill.adapters.redis_holdings import RedisHoldings
from histill.adapters.redis_jobs import RedisJobIndex, RedisVersionCounter
from histill.adapters.redis_live import RedisLiveState
from histill.adapters.s3 import S3ObjectStore
from histill.core.clock import utc_now
from histill.core.job_store import JobStore
from histill.distill.cache_keeping import CacheKeeper
from histill.distill.health import Signs
from histill.distill.trainer_process import trainer_command
from histill.distill.vitals import Vitals
from histill.distill.worker import Worker

if TYPE_CHECKING:
    from histill.distill.settings import WorkerSettings


def build(settings: WorkerSettings, scratch: Path) -> Worker:
    """The worker's dependencies over the real servers; work folders go into ``scratch``."""
    objects = S3ObjectStore.connect(settings.s3)
    redis = connect(settings.redis)
    return Worker(
        objects=objects,
        versions=RedisVersionCounter(redis),
        jobs=JobStore(objects, RedisJobIndex(redis), RedisEventLog(redis), utc_now),
        live=RedisLiveState(redis),
        settings=settings.worker,
        scratch=scratch,
        clock=utc_now,
        draining=threading.Event(),
        command=partial(trainer_command, processes=settings.worker.processes),
        signing=load_signing(settings.signing),
        vitals=vitals_of(settings),
    )


def vitals_of(settings: WorkerSettings) -> Vitals:
    """How long each part may be silent, which may wait for servers that hang."""
    redis_s, s3_s = settings.redis.timeout_s, settings.s3.timeout_s
    return Vitals(
        loop_s=settings.worker.health_silence_s + 3 * redis_s,
        watch_s=60 + 12 * redis_s + 6 * s3_s,
    )


def signs(settings: WorkerSettings, worker: Worker) -> Signs:
    """What the worker's health follows from."""
    redis = RedisJobIndex(connect(settings.redis))
    return Signs(worker.vitals, worker.draining, redis.ping, worker.objects.ping)


def keeper(settings: WorkerSettings, scratch: Path) -> CacheKeeper:
    """What looks after this worker's disk; ``scratch`` is its own folder for work folders."""
    cache = settings.worker.teacher_cache
    return CacheKeeper(
        objects=S3ObjectStore.connect(settings.s3),
        holdings=RedisHoldings(connect(settings.redis)),
        cache=Path(cache) if cache else None,
        cache_bytes=settings.worker.teacher_cache_bytes,
        scratch=scratch.parent,
    )
