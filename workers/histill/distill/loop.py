"""A training from its first step to its last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import structlog

from histill.distill.dead_start import DeadStartError, Watch
from histill.distill.history import History
from histill.distill.objective import TensorBatch
from histill.distill.prefetch import prefetched
from histill.distill.stepping import Trainer
from histill.distill.training_state import TrainingState
from histill.distill.validations import Validations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from histill.core.specs import TrainingSpec
    from histill.distill.data import Batch, CropSampler
    from histill.distill.devices import Place
    from histill.distill.objective import Objective
    from histill.distill.progress import Reporter
    from histill.distill.run_checkpoint import RunCheckpoint, Saved
    from histill.distill.validations import Validate

log = structlog.get_logger()


def fit(
    net: nn.Module,
    sampler: CropSampler,
    objective: Objective,
    *,
    training: TrainingSpec,
    place: Place,
    reporter: Reporter,
    validate: Validate,
    start: int = 0,
    saved: Saved | None = None,
    checkpoint: RunCheckpoint | None = None,
) -> tuple[nn.Module, History]:
    """Trains a network.

    The last weights count, or their average; only with ``patience`` the best on the
    validation images.

    Args:
        net: A ``Normalized`` network on the place's device.
        sampler: Gives the batches.
        objective: The loss.
        training: Steps, learning rate and all else.
        place: This process.
        reporter: Hears about progress.
        validate: Measures of a network on the validation images, ``dice`` among them;
            called in the first process.
        start: Dead starts before this one.
        saved: What it goes on from; ``None`` begins at the beginning.
        checkpoint: Where it writes its state; ``None`` writes none.

    Returns:
        The network to keep, and the curves.

    Raises:
        WorkFailedError: DIVERGED; loss or gradient is not finite.
        DeadStartError: The output is one class only, after a quarter of the steps or at
            the end.
    """
    steps, history = training.steps, History()
    trainer = Trainer(net, objective, training=training, place=place)
    validations = Validations.of(training, validate)
    watch = Watch(steps, validations.at if training.patience else set())
    state = TrainingState(trainer, history, validations, watch, place, start)
    if saved is not None:
        trainer.settle(TensorBatch.of(sampler.batch(0), place.device))
        state.restore(saved)
        if place.first:
            log.info("resumed", step=state.step, start=state.start + 1)
        reporter.report("training", state.step, steps, force=True)
    first, spent = state.step, state.seconds
    started = last = time.monotonic()
    drawn_batches = _drawn(sampler, steps, training.accumulate, first=first)
    for step, drawn in enumerate(drawn_batches, start=first + 1):
        batches = [TensorBatch.of(each, place.device) for each in drawn]
        logits, values = trainer.step(batches, number=step)
        watch.see(step, logits, batches[-1])
        if step in watch.looks and place.everywhere(fact=watch.dead):
            raise DeadStartError
        weights = np.mean([each.teacher_weights.mean(axis=0) for each in drawn], axis=0).tolist()
        if history.keeps(step, steps) or step in validations.at:
            history.add(step, values, weights)
        now = time.monotonic()
        metrics = values | {"step_seconds": now - last}
        metrics |= {f"teacher_weight_{i}": w for i, w in enumerate(weights)}
        if step in validations.at and place.first:
            metrics |= validations.measure(step, trainer.kept, history)
        last = time.monotonic()
        reporter.report(
            "training",
            step,
            steps,
            eta_seconds=(last - started) / (step - first) * (steps - step),
            metrics=metrics,
            force=step == steps or step in validations.at,
        )
        if step in validations.at and place.anywhere(fact=validations.over):
            break
        if checkpoint is not None and checkpoint.due():
            state.step, state.seconds = step, spent + last - started
            checkpoint.write(state.shared(), state.own())
    validations.put_back(trainer.kept, history)
    return trainer.kept, history


def _drawn(
    sampler: CropSampler, steps: int, accumulate: int, *, first: int
) -> Iterator[list[Batch]]:
    """The batches of each step after the first ones, drawn while the one before is worked on."""
    batches = prefetched(sampler.batch, steps * accumulate, first=first * accumulate)
    for _ in range(first, steps):
        yield [next(batches) for _ in range(accumulate)]
