"""Measures on the validation images while training goes on, and early stopping."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor, nn

    from histill.core.specs import TrainingSpec
    from histill.distill.history import History

    Validate = Callable[[nn.Module], Mapping[str, float]]


@dataclass
class Validations:
    """When to measure, and what follows from it.

    Attributes:
        at: Steps.
        patience: Validations without a better Dice that end the run; 0 for no end.
        validate: Measures of a network, ``dice`` among them.
        best: The best Dice so far.
        best_step: Its step.
        since: Validations since.
        weights: Of that step.
    """

    at: set[int]
    patience: int
    validate: Validate
    best: float = -math.inf
    best_step: int | None = None
    since: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, training: TrainingSpec, validate: Validate) -> Validations:
        """Evenly spaced; the end is scored anyway, but with patience it is a candidate too."""
        parts = range(1, training.validations + 1)
        at = {training.steps * part // (training.validations + 1) for part in parts} - {0}
        return cls(
            at | ({training.steps} if training.patience else set()), training.patience, validate
        )

    def measure(self, step: int, net: nn.Module, history: History) -> dict[str, float]:
        """Measures a network; its metrics as events name them."""
        scores = self.validate(net)
        dice = scores["dice"]
        history.validation.append((step, dice))
        if self.patience and dice > self.best:
            self.best, self.best_step, self.since = dice, step, 0
            self.weights = {name: value.clone() for name, value in net.state_dict().items()}
        elif not math.isnan(dice):
            self.since += 1
        return {f"val_{name}": value for name, value in scores.items()}

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return bool(self.patience) and self.since >= self.patience

    def put_back(self, net: nn.Module, history: History) -> None:
        """Puts the best weights back, where patience asks for them."""
        if self.best_step is not None:
            net.load_state_dict(self.weights)
            history.best_step = self.best_step

    def state(self) -> dict[str, Any]:
        """What was found so far; the rest follows from the order."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "since": self.since,
            "weights": self.weights,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        for name, value in state.items():
            setattr(self, name, value)
