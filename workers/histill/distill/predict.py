"""Logits of whole images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from histill.distill.data import pad_to

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from histill.core.manifests import Normalization


class Normalized(nn.Module):
    """A network behind the normalisation it was trained with.

    Args:
        net: float [N, C, H, W] to logits.
        normalization: Constants of each channel for values in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.net = net
        for name in ("mean", "std"):
            values = torch.tensor(getattr(normalization, name), dtype=torch.float32)
            self.register_buffer(name, values[None, :, None, None] * 255, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits from float [N, C, H, W] in units of a byte."""
        logits: Tensor = self.net((image - self.mean) / self.std)
        return logits


@dataclass(frozen=True)
class Predictor:
    """Runs a network on full images.

    Attributes:
        net: A ``Normalized`` network.
        stride: Sides are padded by reflection to multiples of it.
        device: Where the network is.
    """

    net: nn.Module
    stride: int
    device: torch.device

    @torch.inference_mode()
    def logits(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """float32 [classes, H, W] from uint8 [H, W, C]; the network is in eval mode."""
        self.net.eval()
        # Two pixels at least at the lowest level: instance norm needs more than one.
        height, width = image.shape[:2]
        sides = (max(2, -(-side // self.stride)) * self.stride for side in (height, width))
        padded = pad_to(image, *sides)
        tensor = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))
        logits: Tensor = self.net(tensor[None].to(self.device, torch.float32))
        return np.asarray(logits[0, :, :height, :width].float().cpu().numpy())
