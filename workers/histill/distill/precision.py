"""What a student loses when it computes in bfloat16, as fast CPUs do.

Measured with torch's mixed precision, which rounds the inputs of convolutions as
runtimes do, on any CPU: the one that serves need not be the one that trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class InBfloat16(nn.Module):
    """A network whose convolutions compute in bfloat16.

    Args:
        net: In eval mode.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Float logits, as of the network."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            logits: Tensor = self.net(images)
        return logits.float()
