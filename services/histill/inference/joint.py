"""One run of a network for several callers, of whom none notices the others."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from histill.core.errors import HistillError
from histill.ml.tiling import pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.inference.models import LoadedModel
    from histill.inference.runtime import Runtime

    Pixels = npt.NDArray[np.uint8]
    Outputs = list[npt.NDArray[Any]]

log = structlog.get_logger()


@dataclass(frozen=True, eq=False)
class Wanted:
    """What one caller wants.

    Attributes:
        images: uint8 [N, H, W, C].
        outputs: Names of what a runtime makes of them, each [N, H, W].
    """

    images: Pixels
    outputs: Sequence[str]


def answers(
    model: LoadedModel, batch: Sequence[Wanted], runs: list[tuple[int, float]]
) -> list[Outputs | Exception]:
    """What each caller is answered; blocks.

    A run that fails is done again in halves, down to each caller by himself: neither want of
    memory nor another's images fail one who would have been answered alone.

    Args:
        model: What to run.
        batch: Of one padded shape.
        runs: Gets images and seconds of each run that succeeds.

    Returns:
        The outputs that each wants, in that order and cut to the images' sides, or why there
        are none.
    """
    if not batch:
        return []
    size, started = sum(len(each.images) for each in batch), time.monotonic()
    try:
        found = together(model.runtime, batch)
    except (HistillError, MemoryError) as exc:
        if len(batch) == 1:
            return [exc]
        log.warning("batch_halved", model=str(model.owned), size=size, why=str(exc))
    else:
        runs.append((size, time.monotonic() - started))
        return [*found]
    middle = len(batch) // 2
    return [*answers(model, batch[:middle], runs), *answers(model, batch[middle:], runs)]


def together(runtime: Runtime, batch: Sequence[Wanted]) -> list[Outputs]:
    """Outputs of each from one run, which makes all that any of them wants."""
    names = list(dict.fromkeys(chain.from_iterable(each.outputs for each in batch)))
    padded = [pad(each.images, multiple=runtime.stride) for each in batch]
    made = runtime.run(names, padded[0] if len(padded) == 1 else np.concatenate(padded))
    found, start = dict(zip(names, made, strict=True)), 0
    parts: list[Outputs] = []
    for each in batch:
        count, height, width = each.images.shape[:3]
        part = slice(start, start + count), slice(height), slice(width)
        parts.append([np.ascontiguousarray(found[name][part]) for name in each.outputs])
        start += count
    return parts
