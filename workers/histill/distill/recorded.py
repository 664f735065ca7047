"""What norms without memory saw of the training images, for data-free distillation later.

A batch norm keeps the mean and variance of its input, which is what a generator needs to
make samples like a teacher's own images. Instance and group norms keep nothing, so the
same two numbers a channel are measured at the end of the run.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from histill.distill.data import pad_to_stride

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from histill.distill.predict import Normalized

MOST_IMAGES = 48  # beyond them the means hardly move
_NORMS = (nn.InstanceNorm2d, nn.GroupNorm)


class _Sums:
    """Count, sum and sum of squares of each channel."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Counts a batch, float [N, C, H, W]."""
        values = x.detach().double()
        self._count += values.shape[0] * values[0, 0].numel()
        self._sum = self._sum + values.sum(dim=(0, 2, 3))
        self._squares = self._squares + values.square().sum(dim=(0, 2, 3))

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Of all that was counted, float32 [C] each, the variance over the count itself."""
        mean = torch.as_tensor(self._sum / self._count)
        variance = (torch.as_tensor(self._squares / self._count) - mean.square()).clamp(min=0)
        return mean.float(), variance.float()


@torch.inference_mode()
def record_statistics(
    net: Normalized, images: Sequence[npt.NDArray[np.uint8]], stride: int
) -> dict[str, Tensor]:
    """Mean and variance of what enters each norm that keeps none, over whole images.

    Args:
        net: Put into eval mode.
        images: uint8 [H, W, C] of any sizes, padded by reflection; of more than
            ``MOST_IMAGES``, evenly spaced ones are taken.
        stride: Sides are padded to multiples of it.

    Returns:
        ``LAYER.mean`` and ``LAYER.var``, float32 [C] on the CPU, with the layers' names in
        ``net.net.named_modules()``; nothing when there is no such norm, or no image.
    """
    layers = {name: each for name, each in net.net.named_modules() if isinstance(each, _NORMS)}
    if not layers or not images:
        return {}
    net.eval()
    device = next(net.parameters()).device
    sums = {name: _Sums() for name in layers}
    hooks = [
        layer.register_forward_pre_hook(partial(_see, sums[name])) for name, layer in layers.items()
    ]
    try:
        for image in images[:: -(-len(images) // MOST_IMAGES)]:
            padded = pad_to_stride(image, stride).transpose(2, 0, 1)
            tensor = torch.from_numpy(np.ascontiguousarray(padded))
            net(tensor[None].to(device, torch.float32))
    finally:
        for hook in hooks:
            hook.remove()
    found: dict[str, Tensor] = {}
    for name, each in sums.items():
        mean, variance = each.mean_and_variance()
        found |= {f"{name}.mean": mean.cpu(), f"{name}.var": variance.cpu()}
    return found


def _see(sums: _Sums, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    sums.add(inputs[0])
