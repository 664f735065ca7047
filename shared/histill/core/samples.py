"""How large the samples of a data-free job are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from histill.core.specs import SAMPLE_STRIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.core.manifests import ModelManifest
    from histill.core.specs import DataFreeSpec

_SEGMENTATION_SIDE = 64
MAX_MEMORY_BYTES = 4 << 30  # of remembered samples


def sample_side(spec: DataFreeSpec, teachers: Sequence[ModelManifest]) -> int:
    """Side of the square samples in pixels: as asked for, or what suits student and teachers.

    That is the side that the first teacher takes, if it classifies; else the least multiple of
    all strides from 64 on, which may be more than a job can hold.
    """
    if spec.training.image_size:
        return spec.training.image_size
    if teachers[0].task == "classification":
        return teachers[0].image_size
    whole = math.lcm(SAMPLE_STRIDE, spec.student.stride, *(t.stride for t in teachers))
    return -(-_SEGMENTATION_SIDE // whole) * whole


def memory_bytes(spec: DataFreeSpec, teachers: Sequence[ModelManifest]) -> int:
    """What the remembered samples take: images as bytes, the teachers' logits in two each."""
    first, pixels = teachers[0], sample_side(spec, teachers) ** 2
    answers = len(first.classes) * (pixels if first.task == "segmentation" else 1)
    return spec.samples.memory * (first.channels * pixels + 2 * answers)
