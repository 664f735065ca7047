"""How often each class shall occur in samples, so that none dies out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_SPAN = 4.0  # from a class's usual share to the largest allowed
_UNKNOWN = 0.3  # of the pixels, for all foreground classes of unknown share together


def share_bounds(
    classes: Sequence[str], asked: Mapping[str, float], recorded: Mapping[str, float]
) -> tuple[Tensor, Tensor]:
    """Least and largest share of pixels that each class may have in a batch.

    A batch holds many objects of few images, so that a class's share is anything from
    what is usual to a few times that; where nothing is known, foreground classes have
    the same modest share. The background takes what they leave.

    Args:
        classes: Names; the first is the background.
        asked: Usual shares by name, from the spec; each above 0.
        recorded: From the teacher's manifest; 0 says that it is not known.

    Returns:
        Two float32 [C], the first above 0.
    """
    foreground = classes[1:]
    known = {name: share for name, share in {**recorded, **asked}.items() if share > 0}
    missing = [name for name in foreground if name not in known]
    left = max(0.0, min(_UNKNOWN, 1 - sum(known.values()))) / max(1, len(missing))
    usual = torch.tensor([known.get(name, max(left, 1e-3)) for name in foreground])
    low = torch.cat([((1 - _SPAN * usual.sum()).clamp(min=0.05))[None], usual])
    high = torch.cat([(1 - usual.sum()).clamp(min=0.1)[None], (_SPAN * usual).clamp(max=0.95)])
    return low, torch.maximum(low, high)
