"""Hands job ids to the workers, through Celery."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager
from itertools import product
from typing import TYPE_CHECKING, Any, Self

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from histill.adapters.celery_app import (
    KEY_PREFIX,
    PRIORITY_STEPS,
    TASK,
    broker_priority,
    make_app,
    queue_of,
)
from histill.adapters.measures import Failure, Store, failed
from histill.core.errors import QueueUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from celery import Celery

    from histill.core.settings import RedisSettings

_RETRY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
_PAGE = 1000
# Kombu wraps some errors of redis-py and lets others through.
_AWAY = (OperationalError, RedisError, OSError)


class CeleryJobQueue:
    """Implements ``JobQueue``; never imports the worker: the task goes by name.

    Args:
        app: A configured app.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app

    @classmethod
    def connect(cls, settings: RedisSettings) -> Self:
        """A queue over the Redis of the settings; opens no connection yet."""
        return cls(make_app(settings))

    def submit(self, job_id: str, *, priority: int, pool: str) -> None:
        """Queues a job id for a pool's workers."""
        with _translated("take jobs"):
            self._app.send_task(
                TASK,
                [job_id],
                queue=queue_of(pool),
                priority=broker_priority(priority),
                retry_policy=_RETRY,
            )

    def waiting(self, pools: Collection[str]) -> set[str]:
        """Job ids whose message no worker of those pools has taken."""
        found: set[str] = set()
        with _translated("tell what waits"), self._channel() as channel:
            for pool, step in product(pools, PRIORITY_STEPS):
                name = channel._q_for_pri(queue_of(pool), step)  # noqa: SLF001 - where it puts them
                found |= set(_messages(channel.client, KEY_PREFIX + name))
        return found

    def depth(self, pools: Collection[str]) -> int:
        """Messages that no worker of those pools has taken."""
        with _translated("tell the queue's depth"), self._channel() as channel:
            # It sums a queue's lists by priority.
            return sum(int(channel._size(queue_of(pool))) for pool in pools)  # noqa: SLF001

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        with self._app.connection_for_read() as connection, connection.channel() as channel:
            yield channel


@contextmanager
def _translated(asked: str) -> Iterator[None]:
    """Raises QueueUnavailableError, counted, when Redis does not do what the block asks."""
    try:
        yield
    except _AWAY as exc:
        failed(Store.REDIS, Failure.UNANSWERED)
        raise QueueUnavailableError(
            f"Redis does not {asked}; is HISTILL_REDIS__URL right?"
        ) from exc


def _messages(client: Any, name: str) -> Iterator[str]:
    """Job ids in one of the lists, read in pages: it may be long."""
    start = 0
    while page := client.lrange(name, start, start + _PAGE - 1):
        for message in page:
            # Celery's protocol 2: the body is [args, kwargs, embed].
            body = base64.b64decode(json.loads(message)["body"])
            yield str(json.loads(body)[0][0])
        start += len(page)
