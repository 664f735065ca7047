"""Finds networks that never came to life.

A very narrow student sometimes answers one class everywhere from its first steps on, and
stays there. Another seed helps, so the sooner it is found the better.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from histill.distill.objective import TensorBatch

_WATCH_FROM = 100  # runs with fewer steps are not watched
_SETTLED = 25  # steps before which any network may answer one class
_WATCH_LAST = 10  # steps whose outputs are looked at
_CONSTANT = 0.999  # share of one class in the output of a dead network
_ALIVE = 0.995  # targets with a larger share of one class prove nothing


class DeadStartError(Exception):
    """The network gives one class everywhere, which its targets do not."""


@dataclass
class Watch:
    """Shares of the most frequent class in the last outputs and targets.

    Attributes:
        steps: Of the run.
        ends: Steps after which it may end early.
        shares: Of output and target, in the last steps before a look.
    """

    steps: int
    ends: set[int] = field(default_factory=set)
    shares: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_WATCH_LAST))

    @property
    def looks(self) -> set[int]:
        """Steps after which to look: a quarter of the run, and wherever it may end."""
        found = {max(1, self.steps // 4), self.steps} | self.ends
        return {step for step in found if step >= _SETTLED} if self.steps >= _WATCH_FROM else set()

    def see(self, step: int, logits: Tensor, batch: TensorBatch) -> None:
        """Notes a step, if it is one of the last before a look."""
        if not any(0 <= look - step < _WATCH_LAST for look in self.looks):
            return
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
        """Whether the output was one class everywhere, and the targets were not."""
        if not self.shares:
            return False
        output, target = (
            sum(column) / len(self.shares) for column in zip(*self.shares, strict=True)
        )
        return bool(output >= _CONSTANT and target < _ALIVE)

    def state(self) -> dict[str, Any]:
        """What was seen; the rest follows from the order."""
        return {"shares": list(self.shares)}

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self.shares.clear()
        self.shares.extend((output, target) for output, target in state["shares"])


def _top_share(classes: Tensor) -> float:
    return float(classes.flatten().bincount().max()) / classes.numel()
