"""The generators: noise to images, as whole fields of structure.

A sample for a segmentation teacher must be full of boundaries at every scale, not one
object in the middle. So noise enters as a field (a vector for each 8 x 8 pixels, beside
one for the whole image that sets stain and brightness) and once more at each finer
level, and everything after it is convolution: any place of a sample may hold anything.
A classification teacher knows where its object is, and its generator too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_CELL = 8  # pixels a side that share a vector of the field
_SLOPE = 0.2
_BYTE = 255.0


@dataclass(frozen=True)
class Noise:
    """What a batch of samples is made from.

    Attributes:
        style: One vector an image, float [N, noise].
        field: One vector a cell, float [N, noise, H / 8, W / 8]; ``None`` for classifiers.
        grain: One value a pixel at each level from coarse to fine, float [N, 1, h, w].
    """

    style: Tensor
    field: Tensor | None
    grain: tuple[Tensor, ...]


class Generator(nn.Module):
    """Noise to images.

    Args:
        channels: Of the images.
        side: Of the images in pixels, a multiple of 8.
        width: Channels at full resolution; twice as many a level below, four times below that.
        noise: Length of the noise vectors.
        mean: Of the teacher's training images, in [0, 1] a channel: what samples start from.
        spatial: Noise as a field, for segmentation.
    """

    offset: Tensor

    def __init__(
        self,
        *,
        channels: int,
        side: int,
        width: int,
        noise: int,
        mean: Sequence[float],
        spatial: bool,
    ) -> None:
        super().__init__()
        self.noise, self.start, self.spatial = noise, side // _CELL, spatial
        levels = round(math.log2(_CELL))
        widths = [width * min(4, 2 ** (levels - i)) for i in range(levels + 1)]
        self.style = nn.Linear(noise, widths[0] * (1 if spatial else self.start**2))
        self.field = nn.Conv2d(noise, widths[0], 3, padding=1) if spatial else None
        self.first = _normed(widths[0])
        self.blocks = nn.ModuleList(_Block(before, after) for before, after in pairwise(widths))
        self.last = nn.Sequential(
            nn.Conv2d(widths[-1], channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels, track_running_stats=False),
        )
        shares = torch.tensor(list(mean)).clamp(0.02, 0.98)
        self.register_buffer("offset", shares.logit()[None, :, None, None], persistent=False)

    def draw(self, count: int) -> Noise:
        """Noise for some images, from torch's global random state."""
        device = self.offset.device

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape).to(device)

        at = self.start
        field = normal(count, self.noise, at, at) if self.spatial else None
        sides = [at * 2**i for i in range(1, len(self.blocks) + 1)]
        return Noise(normal(count, self.noise), field, tuple(normal(count, 1, s, s) for s in sides))

    def forward(self, noise: Noise) -> Tensor:
        """Images, float [N, C, H, W] in units of a byte."""
        count = len(noise.style)
        if self.field is not None and noise.field is not None:
            x = self.field(noise.field) + self.style(noise.style)[:, :, None, None]
        else:
            x = self.style(noise.style).reshape(count, -1, self.start, self.start)
        x = self.first(x)
        for block, grain in zip(self.blocks, noise.grain, strict=True):
            x = block(x, grain)
        images: Tensor = _BYTE * torch.sigmoid(self.last(x) + self.offset)
        return images


class _Block(nn.Module):
    """Twice the resolution, and a little fresh noise."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.grain = nn.Parameter(torch.full((1, after, 1, 1), 0.1))
        self.rest = _normed(after)

    def forward(self, x: Tensor, grain: Tensor) -> Tensor:
        x = self.convolution(_doubled(x))
        result: Tensor = self.rest(x + self.grain * grain)
        return result


def _normed(width: int) -> nn.Sequential:
    # Statistics of the batch in training and after: samples are always made in batches.
    norm = nn.BatchNorm2d(width, track_running_stats=False)
    return nn.Sequential(norm, nn.LeakyReLU(_SLOPE, inplace=True))


def _doubled(x: Tensor) -> Tensor:
    """Nearest neighbours; torch's own has no deterministic backward pass on GPUs."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
