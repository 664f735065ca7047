"""A training from its first step to its last."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from histill.distill.dead_start import DeadStartError, Watch
from histill.distill.history import History
from histill.distill.objective import TensorBatch
from histill.distill.prefetch import prefetched
from histill.distill.stepping import Trainer
from histill.distill.validations import Validations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from histill.core.specs import TrainingSpec
    from histill.distill.data import Batch, CropSampler
    from histill.distill.devices import Place
    from histill.distill.objective import Objective
    from histill.distill.progress import Reporter
    from histill.distill.validations import Validate


def fit(
    net: nn.Module,
    sampler: CropSampler,
    objective: Objective,
    *,
    training: TrainingSpec,
    place: Place,
    reporter: Reporter,
    validate: Validate,
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
    started = last = time.monotonic()
    for step, drawn in enumerate(_drawn(sampler, steps, training.accumulate), start=1):
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
            eta_seconds=(last - started) / step * (steps - step),
            metrics=metrics,
            force=step == steps or step in validations.at,
        )
        if step in validations.at and place.anywhere(fact=validations.over):
            break
    validations.restore(trainer.kept, history)
    return trainer.kept, history


def _drawn(sampler: CropSampler, steps: int, accumulate: int) -> Iterator[list[Batch]]:
    """The batches of each step, drawn while the one before is worked on."""
    batches = prefetched(sampler.batch, steps * accumulate)
    for _ in range(steps):
        yield [next(batches) for _ in range(accumulate)]
