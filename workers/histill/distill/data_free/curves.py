"""What is plotted of a data-free run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from histill.distill.data_free.guard import Alarm


@dataclass(frozen=True)
class Grid:
    """Samples of one moment.

    Attributes:
        step: Of the student.
        kind: ``hard`` or ``simple``.
        images: uint8 [N, C, H, W].
        logits: The teachers', float16 [N, classes, ...].
        answers: The student's classes, uint8 [N] or [N, H, W].
    """

    step: int
    kind: str
    images: Tensor
    logits: Tensor
    answers: Tensor


@dataclass
class Curves:
    """One value for each check.

    Attributes:
        steps: Steps of the student at each check.
        values: By name: ``loss``, ``agreement_hard``, ``agreement_simple``, ``forgetting``,
            ``hard_share``, ``hard_distance``, ``hard_apart`` and so on; NaN where a check
            had none.
        grids: Samples now and then.
        alarms: Step and kind of each failure that was noticed.
        kept_step: Step whose student was kept.
    """

    steps: list[int] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)
    grids: list[Grid] = field(default_factory=list)
    alarms: list[tuple[int, Alarm]] = field(default_factory=list)
    kept_step: int = 0

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the values of a check."""
        for name in values.keys() - self.values.keys():
            self.values[name] = [float("nan")] * len(self.steps)
        self.steps.append(step)
        for name, series in self.values.items():
            series.append(values.get(name, float("nan")))

    def cut(self, step: int) -> None:
        """Forgets what came after a step, to which the run went back; alarms stay."""
        kept = sum(each <= step for each in self.steps)
        del self.steps[kept:]
        for series in self.values.values():
            del series[kept:]
        self.grids = [grid for grid in self.grids if grid.step <= step]

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        return {
            "steps": self.steps,
            "values": self.values,
            "alarms": [[step, str(alarm)] for step, alarm in self.alarms],
            "grids": [vars(grid) for grid in self.grids],
        }

    @classmethod
    def restored(cls, state: Mapping[str, Any], alarm: type[Alarm]) -> Curves:
        """What a state says."""
        return cls(
            steps=list(state["steps"]),
            values={name: list(series) for name, series in state["values"].items()},
            grids=[Grid(**grid) for grid in state["grids"]],
            alarms=[(step, alarm(name)) for step, name in state["alarms"]],
        )


def thumbnails(step: int, kind: str, images: Tensor, logits: Tensor, answers: Tensor) -> Grid:
    """A grid of what was just made, on the CPU and small.

    Args:
        step: Of the student.
        kind: Which generator.
        images: float [N, C, H, W] in units of a byte.
        logits: The teachers'.
        answers: The student's logits.
    """
    return Grid(
        step,
        kind,
        images.round().to("cpu", torch.uint8),
        logits.to("cpu", torch.float16),
        answers.argmax(dim=1).to("cpu", torch.uint8),
    )
