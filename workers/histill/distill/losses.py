"""The terms of the training loss, each as a small function with flat arguments.

All take logits or probabilities [B, C, H, W] and reduce to a scalar that stays part of
the graph, also when no pixel counts. A batch may be spread over processes: ``total``
then adds a tensor up over them, so that the loss is that of the whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Total = Callable[[Tensor], Tensor]


def alone(value: Tensor) -> Tensor:
    """The ``total`` of one process: the value itself."""
    return value


def masked_mean(
    values: Tensor,
    *,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
    total: Total = alone,
) -> Tensor:
    """Mean of [B, H, W] over the pixels of the masked images; 0 when there are none."""
    if weight is not None:
        values = values * weight
    images = values.new_ones(len(values)) if mask is None else mask.to(values.dtype)
    pixels = images.sum() * values[0].numel()
    return total((values * images[:, None, None]).sum()) / total(pixels).clamp(min=1)


def weighted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
    total: Total = alone,
) -> Tensor:
    """Cross-entropy with a weight for each pixel.

    Args:
        logits: float [B, C, H, W].
        target: Class map, int64 [B, H, W].
        weight: float [B, H, W], about 1 in the mean; the sum is divided by the number
            of pixels, not by the sum of weights, so that a crop full of boundaries
            counts more.
        mask: Labelled images, bool [B]; the others count for nothing.
        total: Adds up over processes.

    Returns:
        Scalar, 0 when no image is labelled.
    """
    values = functional.cross_entropy(logits, target, reduction="none")
    return masked_mean(values, weight=weight, mask=mask, total=total)


def soft_dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    epsilon: float = 1e-6,
    total: Total = alone,
) -> Tensor:
    """One minus the soft Dice of the batch, mean over the foreground classes present.

    Args:
        logits: float [B, C, H, W].
        target: Class map, int64 [B, H, W].
        mask: Labelled images, bool [B]; the others count for nothing.
        epsilon: Keeps the quotient finite.
        total: Adds up over processes.

    Returns:
        Scalar in [0, 1]; 0 when no foreground class is present.

    Source: Milletari et al., V-Net, https://arxiv.org/abs/1606.04797, with the plain
    sum in the denominator.
    """
    probabilities = logits.softmax(dim=1)[:, 1:]
    truth = one_hot(target, logits)[:, 1:]
    if mask is not None:
        images = mask.to(logits.dtype)[:, None, None, None]
        probabilities, truth = probabilities * images, truth * images
    axes = (0, 2, 3)
    overlap = total((probabilities * truth).sum(axes))
    found = total(truth.sum(axes))
    size = total(probabilities.sum(axes)) + found
    present = (found > 0).to(logits.dtype)
    loss = 1 - 2 * overlap / (size + epsilon)
    return (loss * present).sum() / present.sum().clamp(min=1)


def distillation_kl(
    logits: Tensor,
    mixture: Tensor,
    *,
    temperature: float,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
    total: Total = alone,
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
        total: Adds up over processes.

    Returns:
        Scalar, at least 0; 0 when no image has a mixture.

    Source: Hinton et al., https://arxiv.org/abs/1503.02531.
    """
    student = functional.log_softmax(logits / temperature, dim=1)
    entropy = torch.special.xlogy(mixture, mixture)
    divergence = (entropy - mixture * student).sum(dim=1)
    return temperature**2 * masked_mean(divergence, weight=weight, mask=mask, total=total)


def overlap_loss(
    probabilities: Tensor,
    reference: Tensor,
    *,
    mask: Tensor | None = None,
    epsilon: float = 1e-6,
    total: Total = alone,
) -> Tensor:
    """One minus the soft Dice of two probability maps, mean over the foreground classes.

    Squares in the denominator, so that it is least where the two are equal. Each class
    counts alike, however thin: the mean over pixels of a divergence forgets those.

    Args:
        probabilities: The student's, float [B, C, H, W].
        reference: The teachers', float [B, C, H, W].
        mask: Images that have a reference, bool [B].
        epsilon: Keeps the quotient finite.
        total: Adds up over processes.

    Returns:
        Scalar in [0, 1]; 0 when no image has a reference.
    """
    images = probabilities.new_ones(len(probabilities)) if mask is None else mask
    rows = images.to(probabilities.dtype)[:, None, None, None]
    ours, theirs = probabilities[:, 1:] * rows, reference[:, 1:] * rows
    axes = (0, 2, 3)
    overlap = total((ours * theirs).sum(axes))
    size = total(ours.square().sum(axes)) + total(theirs.square().sum(axes))
    return (1 - (2 * overlap + epsilon) / (size + epsilon)).mean()


def edge_loss(
    probabilities: Tensor, reference: Tensor, *, mask: Tensor | None = None, total: Total = alone
) -> Tensor:
    """How far probabilities change from pixel to pixel otherwise than a reference.

    Differences to the pixel on the right and the one below, of each class, L1. A hard
    boundary of the reference asks for a jump in the same place, a fuzzy one for the same
    gentle slope, and flat regions for none, so that the term lives at boundaries.

    Args:
        probabilities: The student's, float [B, C, H, W].
        reference: float [B, C, H, W]; labels as one-hot planes, or a mixture.
        mask: Images that have a reference, bool [B].
        total: Adds up over processes.

    Returns:
        Scalar in [0, 4]; 0 when the two differ by a constant in each class.
    """
    apart = probabilities - reference
    down = functional.pad((apart[:, :, 1:] - apart[:, :, :-1]).abs().sum(dim=1), (0, 0, 0, 1))
    right = functional.pad((apart[..., 1:] - apart[..., :-1]).abs().sum(dim=1), (0, 1))
    return masked_mean(down + right, mask=mask, total=total)


def affinity_loss(
    probabilities: Tensor,
    reference: Tensor,
    *,
    patch: int = 8,
    mask: Tensor | None = None,
    total: Total = alone,
) -> Tensor:
    """How far pairs of regions are alike for the student otherwise than for the teachers.

    Probabilities are averaged over patches; the cosine of each pair of patches is
    compared, squared difference, mean over pairs.

    Args:
        probabilities: The student's, float [B, C, H, W].
        reference: The teachers', float [B, C, H, W].
        patch: Side of a patch in pixels, at most that of the image.
        mask: Images that have a reference, bool [B].
        total: Adds up over processes.

    Returns:
        Scalar in [0, 1]; 0 when no image has a reference.

    Source: pair-wise distillation of Liu et al., https://arxiv.org/abs/1903.04197, here
    on probabilities instead of features, so that teachers of any kind can be taken from
    their predictions.
    """
    ours, theirs = _affinity(probabilities, patch), _affinity(reference, patch)
    return masked_mean((ours - theirs).square(), mask=mask, total=total)


def _affinity(probabilities: Tensor, patch: int) -> Tensor:
    """Float [B, N, N] cosines of the N patches' class vectors."""
    vectors = functional.avg_pool2d(probabilities, patch).flatten(2)
    vectors = functional.normalize(vectors, dim=1)
    return vectors.transpose(1, 2) @ vectors


def one_hot(target: Tensor, like: Tensor) -> Tensor:
    """Class map [B, H, W] as planes [B, C, H, W] of the classes and type of logits."""
    return functional.one_hot(target, like.shape[1]).movedim(-1, 1).to(like.dtype)
