"""An exponential average of weights, for students that keep one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.optim.swa_utils import AveragedModel

if TYPE_CHECKING:
    from torch import Tensor, nn


def average_of(net: nn.Module, decay: float, *, buffers: bool = False) -> AveragedModel:
    """The average of a network, to be updated after each step.

    Over fewer steps at the start, so that the first weights fade.

    Args:
        net: What is averaged; the average starts as a copy.
        decay: A step, in [0, 1).
        buffers: Averages buffers too, instead of keeping the copy's.
    """

    def averaged(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        steps = int(count)
        share = 1 - min(decay, (1 + steps) / (10 + steps))
        return average + (current - average) * share  # exact where the two are equal

    return AveragedModel(net, avg_fn=averaged, use_buffers=buffers)
