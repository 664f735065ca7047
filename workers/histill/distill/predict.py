"""Logits of whole images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from histill.distill.data import pad_to_stride

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from histill.core.manifests import Normalization

_LEAST_SPREAD = 1e-3  # of an image's values, in units of a byte


class Normalized(nn.Module):
    """A network behind the normalisation it was trained with.

    Args:
        net: float [N, C, H, W] to logits.
        normalization: Scaling, then constants of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.net = net
        self.scaling = normalization.scaling
        # Unscaled values are in units of a byte, and so are their constants.
        unit = 255 if self.scaling == "constant" else 1
        for name in ("mean", "std"):
            values = torch.tensor(getattr(normalization, name), dtype=torch.float32)
            self.register_buffer(name, values[None, :, None, None] * unit, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits from float [N, C, H, W] in units of a byte."""
        logits: Tensor = self.net((self._scaled(image) - self.mean) / self.std)
        return logits

    def _scaled(self, image: Tensor) -> Tensor:
        """Each image by its own values; a constant one becomes 0, with a finite gradient."""
        if self.scaling == "image_range":
            low = image.amin(dim=(1, 2, 3), keepdim=True)
            high = image.amax(dim=(1, 2, 3), keepdim=True)
            return (image - low) / (high - low).clamp_min(_LEAST_SPREAD)
        if self.scaling == "image_zscore":
            centred = image - image.mean(dim=(2, 3), keepdim=True)
            variance = centred.square().mean(dim=(2, 3), keepdim=True)
            return centred / variance.clamp_min(_LEAST_SPREAD**2).sqrt()
        return image


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
        height, width = image.shape[:2]
        padded = pad_to_stride(image, self.stride)
        tensor = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))
        logits: Tensor = self.net(tensor[None].to(self.device, torch.float32))
        return np.asarray(logits[0, :, :height, :width].float().cpu().numpy())
