"""Curves of one training, thinned to a few hundred points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_POINTS = 400  # kept of each curve


@dataclass
class History:
    """The curves.

    Attributes:
        steps: Step number of each point, from 1.
        terms: Values at each point by name: ``loss``, ``ce``, ``dice_loss``, ``kd``,
            ``overlap``, ``edge``, ``affinity``.
        teacher_weights: Mean weight of each teacher over this process's part of the
            batch, at each point.
        validation: Step and mean Dice of each validation.
        best_step: Step whose weights were kept, where early stopping chose them.
        earlier_s: Seconds that attempts before this one trained for.
    """

    steps: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    teacher_weights: list[list[float]] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    earlier_s: float = 0.0

    @staticmethod
    def keeps(step: int, steps: int) -> bool:
        """Whether a step is one of the points."""
        return step % max(1, steps // _POINTS) == 0 or step == steps

    def add(self, step: int, values: Mapping[str, float], weights: list[float]) -> None:
        """Adds a point."""
        self.steps.append(step)
        self.teacher_weights.append(weights)
        for name, value in values.items():
            self.terms.setdefault(name, []).append(value)

    def state(self) -> dict[str, Any]:
        """All of it."""
        return dict(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        for name, value in state.items():
            setattr(self, name, value)
        self.validation = [(step, dice) for step, dice in state["validation"]]
