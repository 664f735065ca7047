"""The terms of the training loss, each as a small function with flat arguments.

All take logits [B, C, H, W] and reduce to a scalar that stays part of the graph,
also when no pixel counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def _mean(values: Tensor, weight: Tensor | None, mask: Tensor | None) -> Tensor:
    """Mean of [B, H, W] over the pixels of the masked images; 0 when there are none."""
    if weight is not None:
        values = values * weight
    if mask is None:
        return values.mean()
    images = mask.to(values.dtype)
    pixels = images.sum() * values[0].numel()
    return (values * images[:, None, None]).sum() / pixels.clamp(min=1)


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, *, weight: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Cross-entropy with a weight for each pixel.

    Args:
        logits: float [B, C, H, W].
        target: Class map, int64 [B, H, W].
        weight: float [B, H, W], about 1 in the mean; the sum is divided by the number
            of pixels, not by the sum of weights, so that a crop full of boundaries
            counts more.
        mask: Labelled images, bool [B]; the others count for nothing.

    Returns:
        Scalar, 0 when no image is labelled.
    """
    return _mean(functional.cross_entropy(logits, target, reduction="none"), weight, mask)


def soft_dice_loss(
    logits: Tensor, target: Tensor, *, mask: Tensor | None = None, epsilon: float = 1e-6
) -> Tensor:
    """One minus the soft Dice of the batch, mean over the foreground classes present.

    Args:
        logits: float [B, C, H, W].
        target: Class map, int64 [B, H, W].
        mask: Labelled images, bool [B]; the others count for nothing.
        epsilon: Keeps the quotient finite.

    Returns:
        Scalar in [0, 1]; 0 when no foreground class is present.

    Source: Milletari et al., V-Net, https://arxiv.org/abs/1606.04797, with the plain
    sum in the denominator.
    """
    probabilities = logits.softmax(dim=1)[:, 1:]
    truth = functional.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:].to(logits.dtype)
    if mask is not None:
        images = mask.to(logits.dtype)[:, None, None, None]
        probabilities, truth = probabilities * images, truth * images
    axes = (0, 2, 3)
    overlap = (probabilities * truth).sum(axes)
    size = probabilities.sum(axes) + truth.sum(axes)
    present = (truth.sum(axes) > 0).to(logits.dtype)
    loss = 1 - 2 * overlap / (size + epsilon)
    return (loss * present).sum() / present.sum().clamp(min=1)


def distillation_kl(
    logits: Tensor,
    mixture: Tensor,
    *,
    temperature: float,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """``temperature^2 * KL(mixture || softmax(logits / temperature))``.

    Summed over classes, mean over pixels (torch's ``reduction="mean"`` would shrink it
    by the number of classes).

    Args:
        logits: The student's, float [B, C, H, W].
        mixture: The teachers' mean probabilities at the same temperature,
            float [B, C, H, W], summing to one over classes.
        temperature: Above 0.
        weight: float [B, H, W], as in ``weighted_cross_entropy``.
        mask: Images that have a mixture, bool [B].

    Returns:
        Scalar, at least 0; 0 when no image has a mixture.

    Source: Hinton et al., https://arxiv.org/abs/1503.02531.
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    entropy = torch.special.xlogy(mixture, mixture)
    divergence = (entropy - mixture * student).sum(dim=1)
    return temperature**2 * _mean(divergence, weight, mask)
