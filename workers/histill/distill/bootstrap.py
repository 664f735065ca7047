"""Puts the worker together: the only place that constructs its clients."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from histill.adapters.redis_client import connect
from histill.adapters.redis_events import RedisEventLog
from histill.adapters.redis_jobs import RedisJobIndex, RedisVersionCounter
from histill.adapters.redis_live import RedisLiveState
from histill.adapters.s3 import S3ObjectStore
from histill.core.clock import utc_now
from histill.core.job_store import JobStore
from histill.distill.supervisor import Worker
from histill.distill.trainer_process import trainer_command

if TYPE_CHECKING:
    from pathlib import Path

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
    )
