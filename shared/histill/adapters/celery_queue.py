"""Hands job ids to the workers, through Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from histill.adapters.celery_app import QUEUE, TASK, broker_priority, make_app
from histill.core.errors import QueueUnavailableError

if TYPE_CHECKING:
    from celery import Celery

    from histill.core.settings import RedisSettings

_RETRY = {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
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

    def submit(self, job_id: str, *, priority: int) -> None:
        """Queues a job id."""
        try:
            self._app.send_task(
                TASK, [job_id], priority=broker_priority(priority), retry_policy=_RETRY
            )
        except _AWAY as exc:
            raise QueueUnavailableError(
                "Redis does not take jobs; is HISTILL_REDIS__URL right?"
            ) from exc

    def depth(self) -> int:
        """Messages that no worker has taken."""
        try:
            with self._app.connection_for_read() as connection, connection.channel() as channel:
                return int(channel._size(QUEUE))  # noqa: SLF001 - sums its lists by priority
        except _AWAY as exc:
            raise QueueUnavailableError(
                "Redis does not tell the queue's depth; is HISTILL_REDIS__URL right?"
            ) from exc
