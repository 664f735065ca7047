"""What a round costs beside the bare passes it consists of."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch

from free_arms import ARMS, free_spec
from free_tasks import CPU
from histill.distill.data_free.run import DataFreeRun
from histill.distill.devices import Place
from histill.distill.progress import Reporter
from histill.distill.workdir import DataFreeOrder, Workdir

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from free_tasks import Task
    from histill.distill.data_free.engine import Engine

_ROUNDS, _FIRST = 12, 6


def round_cost(root: Path, task: Task) -> dict[str, float]:
    """Median seconds of a round and of its bare forward and backward passes, by turns."""
    manifest, folder, teacher = task.teacher(root)
    spec = free_spec(task.student.model_dump(), task.changes, ARMS["both"], seed=0)
    generators = spec.generators.model_copy(update={"warmup": 0.0})
    spec = spec.model_copy(update={"generators": generators})
    with TemporaryDirectory() as scratch:
        workdir = Workdir(Path(scratch))
        workdir.teacher(0).parent.mkdir(parents=True)
        workdir.teacher(0).symlink_to(folder.resolve())
        order = DataFreeOrder(job="jobs/bench", attempt=1, spec=spec, teachers=(manifest,))
        engine = DataFreeRun(workdir, order, Place(CPU), Reporter(None)).distillation().engine
    for number in range(_FIRST):  # until the memory is full enough to be drawn from
        engine.round(number, hard_share=spec.samples.hard_share)
    bare = _bare(engine, teacher)
    ours, theirs = [], []
    for number in range(_ROUNDS):
        ours.append(_timed(lambda n=number: engine.round(_FIRST + n, hard_share=0.5)))  # type: ignore[misc]
        theirs.append(_timed(bare))
    a, b = statistics.median(ours), statistics.median(theirs)
    return {"round_seconds": a, "bare_seconds": b, "round_cost_ratio": a / b}


def _bare(engine: Engine, teacher: nn.Module) -> Callable[[], None]:
    """The passes of one round and nothing else: no loss, optimiser, memory or check."""
    spec, hard = engine.spec, engine.hard
    assert hard is not None
    size, steps = spec.training.batch_size, spec.training.student_steps
    old = round(spec.samples.memory_share * size)
    mixed = round(spec.samples.blending * old)
    images = hard(hard.draw(size)).detach()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    parameters = list(hard.parameters())

    def passes() -> None:
        made = hard(hard.draw(size))
        engine.student.eval()
        torch.autograd.grad(teacher(made).sum() + engine.student(made).sum(), parameters)
        engine.student.train()
        with torch.no_grad():
            teacher(hard(hard.draw(steps * (size - old))))
        for _ in range(steps):
            with torch.no_grad():
                teacher(images[:mixed])
            engine.student(images).sum().backward()

    return passes


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
