"""The Celery app that the jobs service sends with and the worker listens with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import Celery

from histill.adapters.redis_client import tls_options
from histill.core.pools import DEFAULT_POOL

if TYPE_CHECKING:
    from histill.core.settings import RedisSettings

_QUEUE = "histill"
KEY_PREFIX = "histill:celery:"
TASK = "histill.distill.run_job"
# Our priority is larger for more urgent; Celery over Redis takes the smaller first.
PRIORITY_STEPS = list(range(10))


def make_app(settings: RedisSettings) -> Celery:
    """A Celery app over our Redis, for messages that are a job id and nothing else.

    A message is gone once a worker has taken it: leases and the reaper bring lost
    jobs back, so that the broker's own redelivery (which starts a long task twice)
    is never needed.
    """
    app = Celery("histill", broker=settings.url.get_secret_value())
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=_QUEUE,
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # By default nothing is checked of who answers.
        broker_use_ssl=tls_options(settings) or None,
        broker_transport_options={
            "priority_steps": PRIORITY_STEPS,
            "queue_order_strategy": "priority",
            "socket_timeout": settings.timeout_s,
            "socket_connect_timeout": settings.timeout_s,
            "global_keyprefix": KEY_PREFIX,
        },
    )
    return app


def queue_of(pool: str) -> str:
    """Name of a pool's queue; that of the pool ``default`` is older than pools."""
    return _QUEUE if pool == DEFAULT_POOL else f"{_QUEUE}.{pool}"


def broker_priority(priority: int) -> int:
    """Celery's number for a priority of 0 to 9."""
    return PRIORITY_STEPS[-1] - priority
