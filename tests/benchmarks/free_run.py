"""One run of the data-free benchmark in a process of its own, on one thread.

Writes ``score.json``: the test scores at every look, of the student as it was then and as
it was kept in the end.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import torch

from free_arms import ARMS, SWITCHES, free_spec
from free_tasks import CPU, TASKS
from histill.core.errors import WorkFailedError
from histill.distill import data_free
from histill.distill.data_free.run import DataFreeRun
from histill.distill.devices import Place
from histill.distill.progress import Reporter, configure_logging
from histill.distill.workdir import DataFreeOrder, Workdir

if TYPE_CHECKING:
    from torch import nn

    from free_tasks import Task
    from histill.core.specs import DataFreeSpec

log = structlog.get_logger()

# Long runs are for a GPU; scores are taken on the CPU everywhere.
DEVICE = torch.device("cuda") if torch.cuda.is_available() else CPU
_EVERY = 4  # checks of a run's forty at which the student is also tested


def scaled_spec(task: Task, name: str, seed: int, *, scale: int) -> DataFreeSpec:
    """An arm's job with so many times the steps."""
    arm = (ARMS | SWITCHES)[name]
    spec = free_spec(task.student.model_dump(), task.changes, arm, seed=seed)
    training = spec.training.model_copy(update={"steps": spec.training.steps * scale})
    return spec.model_copy(update={"training": training})


def score_path(root: Path, task: Task, name: str, seed: int, *, scale: int) -> Path:
    """Where a run's scores lie: of this spec and this code, or none."""
    digest = hashlib.sha256(scaled_spec(task, name, seed, scale=scale).model_dump_json().encode())
    for source in sorted(Path(data_free.__path__[0]).glob("*.py")):
        digest.update(source.read_bytes())
    return root / "scores" / f"{task.name}-{name}-{seed}-{digest.hexdigest()[:12]}.json"


def run(root: Path, task: Task, name: str, seed: int, *, scale: int) -> dict[str, Any]:
    """Trains one student.

    Args:
        root: Folder of the benchmark.
        task: What is taught.
        name: Of the arm.
        seed: Of everything.
        scale: Times as many steps.

    Returns:
        ``looks``, a list of step and scores, ``kept`` scores, ``alarms`` and ``seconds``.
    """
    arm = (ARMS | SWITCHES)[name]
    manifest, folder, teacher = task.teacher(root)
    spec = scaled_spec(task, name, seed, scale=scale)
    training = spec.training
    started = time.monotonic()
    if arm.kind != "free":
        net = task.on_data(root, steps=training.steps, seed=seed, distilled=arm.kind == "kd")
        scores = task.score(net, teacher)._asdict()
        looks = [{"step": training.steps, **scores}]
        return {"looks": looks, "kept": scores, "alarms": [], "seconds": _since(started)}
    workdir = Workdir(root / "runs" / f"{task.name}-{name}-{seed}")
    workdir.teacher(0).parent.mkdir(parents=True, exist_ok=True)
    if not workdir.teacher(0).exists():
        workdir.teacher(0).symlink_to(folder)
    order = DataFreeOrder(job="jobs/bench", attempt=1, spec=spec, teachers=(manifest,))
    distillation = DataFreeRun(workdir, order, Place(DEVICE), Reporter(None)).distillation()
    distillation.checkpoint = None
    looks = []

    def look(step: int, student: nn.Module) -> None:
        if len(distillation.curves.steps) % _EVERY == 0:
            copied = copy.deepcopy(student).to(CPU)
            looks.append({"step": step, **task.score(copied, teacher)._asdict()})

    distillation.on_check = look
    try:
        kept = task.score(distillation.run().to(CPU), teacher)._asdict()
    except WorkFailedError as exc:  # as an arm may that nobody looks after
        log.warning("failed", why=str(exc))
        kept = {key: value for key, value in looks[-1].items() if key != "step"}
    return {
        "looks": looks,
        "kept": kept,
        "alarms": [[step, str(alarm)] for step, alarm in distillation.curves.alarms],
        "seconds": _since(started),
    }


def _since(started: float) -> float:
    return time.monotonic() - started


def main() -> None:
    """``free_run.py ROOT TASK ARM SEED SCALE``."""
    root, task, name, seed, scale = sys.argv[1:]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    configure_logging()
    what = TASKS[task]()
    score = run(Path(root), what, name, int(seed), scale=int(scale))
    path = score_path(Path(root), what, name, int(seed), scale=int(scale))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(score))


if __name__ == "__main__":
    main()
