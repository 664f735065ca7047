"""The training subprocess: ``python -m histill.distill.trainer WORKDIR``, or by torchrun.

It reads a work folder and writes into it; it has no credentials and opens no socket of
ours. Events go to stdout as JSON lines, the log to stderr. It installs no handler for
SIGTERM: the default ends it at once, and without ``result.json`` nothing counts as made.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from histill.distill.dataset import load_dataset
from histill.distill.progress import Reporter, configure_logging
from histill.distill.reasons import INTERNAL, OUT_OF_MEMORY, trainer_error
from histill.distill.workdir import DataFreeOrder, Workdir

if TYPE_CHECKING:
    from histill.distill.workdir import RunOrder, RunResult

log = structlog.get_logger()


def train(workdir: Workdir) -> None:
    """Carries out the order in a work folder.

    Raises:
        WorkFailedError: With its reason and a hint.
    """
    first = os.environ.get("RANK", "0") == "0"
    order = workdir.read_order()
    reporter = Reporter(sys.stdout if first else None)
    stage = "teachers" if order.teachers else "training"
    if not workdir.checkpoint.exists():  # a run that goes on tells from which step
        reporter.report(stage, steps=order.spec.training.steps, force=True)
    if isinstance(order, DataFreeOrder):
        result = _without_data(workdir, order, reporter)
    else:
        result = _with_data(workdir, order, reporter)
    if result is not None:
        workdir.write_result(result)


def _with_data(workdir: Workdir, order: RunOrder, reporter: Reporter) -> RunResult | None:
    # Data first: a bad dataset is told before seconds go into importing torch.
    dataset = load_dataset(workdir, order)
    from histill.distill.devices import joined
    from histill.distill.run import Run

    with joined() as place:
        return Run(workdir, order, dataset, place, reporter).execute()


def _without_data(workdir: Workdir, order: DataFreeOrder, reporter: Reporter) -> RunResult | None:
    from histill.distill.data_free.run import DataFreeRun
    from histill.distill.devices import joined

    with joined() as place:
        return DataFreeRun(workdir, order, place, reporter).execute()


def _end_with_parent() -> None:
    """Ends this process soon after its parent, which may be killed without a word."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: list[str]) -> int:
    """Runs the trainer; the exit code is 0, 1 when the work failed, 2 for wrong usage."""
    configure_logging()
    # Before torch is imported: threads that spin while they wait for one another cost
    # several times the time as soon as another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if len(arguments) != 1 or not (Path(arguments[0]) / "run.json").is_file():
        log.error("usage", text="python -m histill.distill.trainer WORKDIR (with a run.json)")
        return 2
    workdir = Workdir(Path(arguments[0]))
    _end_with_parent()
    try:
        train(workdir)
    except Exception as exc:
        # Whatever it is, the supervisor must learn it.
        error = trainer_error(exc)
        # Of several processes one knows why; the others only see that it has gone.
        if error.reason != INTERNAL or workdir.read_error() is None:
            workdir.write_error(error)
        traceback = error.reason in {INTERNAL, OUT_OF_MEMORY}
        log.log(
            logging.ERROR, error.reason, message=error.message, hint=error.hint, exc_info=traceback
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
