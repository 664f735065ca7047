"""The optimisation: AdamW under a one-cycle schedule, watched for dead starts."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from histill.core.errors import WorkFailedError
from histill.distill.objective import Objective, TensorBatch
from histill.distill.reasons import DIVERGED

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from histill.core.specs import TrainingSpec
    from histill.distill.data import CropSampler
    from histill.distill.devices import Place
    from histill.distill.progress import Reporter

_CLIP = 5.0  # of the gradient's norm
_POINTS = 400  # kept of each curve
_WATCH_FROM = 100  # runs with fewer steps are not watched
_WATCH_LAST = 10  # steps whose outputs are looked at
_CONSTANT = 0.999  # share of one class in the output of a dead network
_ALIVE = 0.995  # targets with a larger share of one class prove nothing


class DeadStartError(Exception):
    """The network gives one class everywhere, which its targets do not."""


@dataclass
class History:
    """Curves of one training, thinned to a few hundred points.

    Attributes:
        steps: Step number of each point, from 1.
        terms: Values at each point by name: ``loss``, ``ce``, ``dice_loss``, ``kd``.
        teacher_weights: Mean weight of each teacher over the batch, at each point.
        validation: Step and mean Dice of each validation.
    """

    steps: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    teacher_weights: list[list[float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class _Watch:
    """Shares of the most frequent class in the last outputs and targets."""

    shares: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WATCH_LAST))

    def see(self, logits: Tensor, batch: TensorBatch) -> None:
        known = batch.labeled
        target = batch.target
        if batch.mixture.shape[1]:
            taught = batch.distilled & ~known
            target = torch.where(taught[:, None, None], batch.mixture.argmax(1), target)
            known = known | taught
        if known.any():
            output = logits.argmax(dim=1)[known]
            self.shares.append((_top_share(output), _top_share(target[known])))

    @property
    def dead(self) -> bool:
        if not self.shares:
            return False
        output, target = (
            sum(column) / len(self.shares) for column in zip(*self.shares, strict=True)
        )
        return bool(output >= _CONSTANT and target < _ALIVE)


def _top_share(classes: Tensor) -> float:
    return float(classes.flatten().bincount().max()) / classes.numel()


def fit(
    net: nn.Module,
    sampler: CropSampler,
    objective: Objective,
    *,
    training: TrainingSpec,
    place: Place,
    reporter: Reporter,
    validate: Callable[[], float],
) -> History:
    """Trains a network in place; the last weights count, never the best on validation.

    Args:
        net: A ``Normalized`` network on the place's device, distributed or not.
        sampler: Gives the batches.
        objective: The loss.
        training: Steps, learning rate and weight decay.
        place: This process.
        reporter: Hears about progress.
        validate: Mean Dice on the validation images; called at a quarter, a half and
            three quarters of the run, in the first process.

    Returns:
        The curves.

    Raises:
        WorkFailedError: DIVERGED; loss or gradient is not finite.
        DeadStartError: The output is one class only, after a quarter of the steps or at
            the end.
    """
    steps, history, watch = training.steps, History(), _Watch()
    optimizer = torch.optim.AdamW(
        net.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=training.learning_rate, total_steps=steps + 1
    )
    quarters = {steps * part // 4 for part in (1, 2, 3)}
    looks = {max(1, steps // 4), steps} if steps >= _WATCH_FROM else set()
    thin = max(1, steps // _POINTS)
    started = time.monotonic()
    net.train()
    for step in range(1, steps + 1):
        step_started = time.monotonic()
        drawn = sampler.batch(step - 1)
        batch = TensorBatch.of(drawn, place.device)
        logits = net(batch.image)
        terms = objective(logits, batch)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms["loss"])
        norm = nn.utils.clip_grad_norm_(net.parameters(), _CLIP)
        values = {name: float(value.detach()) for name, value in terms.items()}
        if not (math.isfinite(values["loss"]) and math.isfinite(float(norm))):
            raise WorkFailedError(
                f"the loss is {values['loss']} and the gradient's norm {float(norm)} "
                f"at step {step}",
                reason=DIVERGED,
                hint="Lower training.learning_rate, or the boundary's beta.",
            )
        optimizer.step()
        schedule.step()
        step_seconds = time.monotonic() - step_started
        if any(0 <= look - step < _WATCH_LAST for look in looks):
            watch.see(logits.detach(), batch)
        if step in looks and place.everywhere(fact=watch.dead):
            raise DeadStartError
        weights = drawn.teacher_weights.mean(axis=0).tolist()
        if step % thin == 0 or step == steps:
            history.steps.append(step)
            history.teacher_weights.append(weights)
            for name, value in values.items():
                history.terms.setdefault(name, []).append(value)
        if step in quarters and place.first:
            history.validation.append((step, validate()))
            net.train()
            values["val_dice"] = history.validation[-1][1]
        reporter.report(
            "training",
            step,
            steps,
            eta_seconds=(time.monotonic() - started) / step * (steps - step),
            metrics=values
            | {"step_seconds": step_seconds}
            | {f"teacher_weight_{i}": w for i, w in enumerate(weights)},
            force=step == steps or "val_dice" in values,
        )
    return history
