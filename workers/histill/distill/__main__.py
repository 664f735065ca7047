"""Starts a worker: ``python -m histill.distill``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from celery.signals import worker_shutting_down

from histill.adapters.celery_app import make_app, queue_of
from histill.core.errors import HistillError
from histill.core.settings import load
from histill.distill.bootstrap import build, keeper, signs
from histill.distill.health import health_told
from histill.distill.pulse import beat_for
from histill.distill.scratch import scratch_folder
from histill.distill.settings import WorkerSettings
from histill.distill.tasks import register
from histill.rpc.logs import configure
from histill.rpc.measures import tell_build
from histill.rpc.metrics import start_metrics
from histill.rpc.private_memory import keep_memory_private
from histill.rpc.tracing import traces_exported

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.distill.supervisor import Worker


def main() -> int:
    """Runs the worker until it is told to stop."""
    keep_memory_private()
    try:
        settings = load(WorkerSettings)
        configure(settings.log, process="worker")
        tell_build("worker")
        with (
            traces_exported(settings.tracing, process="worker"),
            scratch_folder(settings.worker.scratch) as scratch,
        ):
            worker = build(settings, scratch)
            if settings.worker.metrics_port >= 0:
                start_metrics(settings.worker.metrics_port, settings.worker.metrics_host)
            with (
                health_told(settings.worker, signs(settings, worker)) as tell_drain,
                keeper(settings, scratch).kept(),
            ):
                run(settings, worker, tell_drain)
    except (HistillError, OSError) as exc:
        sys.stderr.write(f"histill worker: {exc}\n")
        return 1
    return 0


def run(settings: WorkerSettings, worker: Worker, tell_drain: Callable[[], None]) -> None:
    """Takes jobs until told to stop; then gives back what it holds.

    Args:
        settings: Its pools, and how many jobs at once.
        worker: What runs them.
        tell_drain: Called when it is told to stop.
    """

    @worker_shutting_down.connect(weak=False)
    def drain(**_: object) -> None:
        worker.draining.set()
        tell_drain()

    app = make_app(settings.redis)
    register(app, worker)
    beat_for(app, worker.vitals)
    # Threads, not forks: the work is in child processes of its own, so that the
    # supervisor needs no process and no channel or client crosses a fork.
    options = ["--pool=threads", f"--concurrency={settings.worker.concurrency}"]
    queues = f"--queues={','.join(queue_of(pool) for pool in settings.worker.pools)}"
    quiet = ["--loglevel=WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["worker", *options, queues, *quiet])


if __name__ == "__main__":
    sys.exit(main())
