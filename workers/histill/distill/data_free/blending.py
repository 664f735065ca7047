"""New samples from remembered ones, without a pass of a generator."""

from __future__ import annotations

import torch
from torch import Tensor


def blended(ones: Tensor, others: Tensor) -> Tensor:
    """Each image with another: half of the pairs mixed, half cut.

    A mixed pair is a weighted mean at a random ratio; a cut one has a random rectangle of
    the first in the second. What they show is for the teachers to say.

    Args:
        ones: float [N, C, H, W].
        others: Of the same shape.

    Returns:
        float [N, C, H, W].

    Sources: Zhang et al., mixup, https://arxiv.org/abs/1710.09412; Yun et al., CutMix,
    https://arxiv.org/abs/1905.04899; teachers asked about the mixture as in Beyer et al.,
    https://arxiv.org/abs/2106.05237.
    """
    half = len(ones) // 2
    ratio = torch.rand((half, 1, 1, 1)).to(ones.device)
    mixed = ratio * ones[:half] + (1 - ratio) * others[:half]
    height, width = (_spans(len(ones) - half, side) for side in ones.shape[2:])
    inside = (height[:, :, None] & width[:, None, :])[:, None].to(ones.device)
    return torch.cat([mixed, torch.where(inside, ones[half:], others[half:])])


def _spans(count: int, side: int) -> Tensor:
    """Random spans of an axis, bool [N, side]."""
    ends = (torch.rand((count, 2)) * side).sort(dim=1).values
    at = torch.arange(side)
    return (at >= ends[:, :1]) & (at < ends[:, 1:])
