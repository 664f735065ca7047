"""The terms of both generators' and the student's losses, each a plain function.

Logits are float [N, C] or [N, C, H, W].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_TINY = 1e-8


def centred(logits: Tensor) -> Tensor:
    """Logits less their mean over classes: what softmax sees of them, and nothing else."""
    return logits - logits.mean(dim=1, keepdim=True)


def disagreement(student: Tensor, teacher: Tensor, *, agreeing_only: bool = False) -> Tensor:
    """Mean absolute difference of the centred logits, one value an image.

    Args:
        student: Logits.
        teacher: Logits.
        agreeing_only: Counts only where both choose the same class: a generator then looks
            for what the student is unsure of, not for where it is plainly wrong.

    Returns:
        float [N], at least 0; 0 for an image where nothing counts.
    """
    apart = (centred(student) - centred(teacher)).abs().mean(dim=1)
    if agreeing_only:
        apart = apart * (student.argmax(1) == teacher.argmax(1))
    return apart.reshape(len(apart), -1).mean(dim=1)


def adversarial(apart: Tensor, *, kind: str) -> Tensor:
    """What G1 minimises so that student and teacher disagree.

    Args:
        apart: ``disagreement``, float [N].
        kind: ``log``: -log(1 + D), whose pull fades as D grows; ``plain``: -D.

    Source: Fang et al., https://arxiv.org/abs/1912.11006.
    """
    return -torch.log1p(apart.mean()) if kind == "log" else -apart.mean()


def uncertainty(logits: Tensor) -> Tensor:
    """Mean entropy of the teacher in nats: 0 where it is sure everywhere."""
    logs = logits.log_softmax(dim=1)
    return -(logs.exp() * logs).sum(dim=1).mean()


def class_imbalance(logits: Tensor) -> Tensor:
    """Negative entropy of a batch's mean prediction in nats, for classification.

    Source: Chen et al., DAFL, https://arxiv.org/abs/1904.01186.
    """
    mean = logits.softmax(dim=1).mean(dim=0)
    return (mean * (mean + _TINY).log()).sum()


def share_gap(logits: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far classes' shares of a batch's pixels are out of bounds, for segmentation.

    Args:
        logits: float [N, C, H, W].
        low: Least share of each class, float [C], above 0.
        high: Largest share, float [C].

    Returns:
        Scalar, 0 within the bounds; relative to the bound that is crossed, so that a rare
        class counts like any other.
    """
    shares = logits.softmax(dim=1).mean(dim=(0, 2, 3))
    under, over = (low - shares).clamp(min=0) / low, (shares - high).clamp(min=0) / high
    return (under + over).mean()
