"""Has the teachers judge each training image, once: those with labels first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import structlog

from histill.distill.boundary import boundary_weight
from histill.distill.data import TrainingImage
from histill.distill.multi_teacher import judge
from histill.distill.reasons import teacher_mismatch
from histill.distill.transfer import Transfer
from histill.ml.appearance import look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from histill.core.specs import BoundaryWeighting, MultiTeacherSpec
    from histill.distill.examples import Example
    from histill.distill.multi_teacher import Verdict
    from histill.distill.panel import Panel

log = structlog.get_logger()


def labeled_image(
    example: Example, boundary: BoundaryWeighting, *, spacing: float = 1.0
) -> TrainingImage:
    """A labelled image without teachers."""
    if example.target is None:
        raise ValueError(example.key)
    return TrainingImage(
        image=example.image,
        target=example.target,
        labeled=True,
        weight=boundary_weight(example.target, boundary, spacing=spacing).astype(np.float16),
        mixture=None,
        teacher_weights=np.zeros(0, dtype=np.float32),
    )


def judged_images(
    examples: Sequence[Example],
    panel: Panel,
    spec: MultiTeacherSpec,
    *,
    spacing: float = 1.0,
    done: Callable[[int], None] = lambda _: None,
) -> list[TrainingImage]:
    """Images with the teachers' mixture; boundaries of unlabelled ones are the consensus's.

    A teacher whose output is not finite on an image is left out there, and named in the
    log once.

    Args:
        examples: Training images.
        panel: The teachers.
        spec: Weighting and boundaries.
        spacing: Side of a pixel in the boundary's unit.
        done: Called with the number of images judged so far.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; no teacher has a finite output anywhere.
    """
    labeled = [i for i, example in enumerate(examples) if example.target is not None]
    unlabeled = [i for i, example in enumerate(examples) if example.target is None]
    images: dict[int, TrainingImage] = {}
    tables: dict[int, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]] = {}
    transfer: Transfer | None = None
    silent = set[int]()
    carries = spec.teacher_weighting.unlabeled == "transfer"
    for index in labeled + unlabeled:
        example = examples[index]
        if tables and example.target is None and transfer is None:
            looks = np.stack([look(each.image) for each in examples])
            transfer = Transfer(looks, tables)
        opinions = panel.ask(example.image)
        for k in np.flatnonzero(~opinions.usable).tolist():
            if k not in silent:
                silent.add(k)
                log.warning(
                    "teacher_excluded",
                    teacher=panel.teachers[k].manifest.reference,
                    image=example.key,
                    why="its output is not finite",
                )
        verdict = judge(
            opinions,
            example.target,
            weighting=spec.teacher_weighting,
            evidence=transfer.evidence(index) if transfer else None,
        )
        if verdict.table.size and example.target is not None and carries:
            tables[index] = (verdict.table, verdict.estimate)
        images[index] = _judged(example, verdict, spec.boundary, spacing)
        done(len(images))
    if all(image.mixture is None for image in images.values()):
        raise teacher_mismatch(
            "no teacher gives finite outputs on these images",
            hint="Look at the teachers' weights and normalisation: they hold NaN or overflow.",
        )
    return [images[index] for index in range(len(examples))]


def _judged(
    example: Example, verdict: Verdict, boundary: BoundaryWeighting, spacing: float
) -> TrainingImage:
    consensus = verdict.consensus.argmax(axis=0).astype(np.uint8)
    known = example.target if example.target is not None else consensus
    weight = boundary_weight(
        known, boundary, spacing=spacing, fuzziness=fuzziness(verdict.consensus)
    )
    return TrainingImage(
        image=example.image,
        target=example.target if example.target is not None else np.zeros_like(consensus),
        labeled=example.target is not None,
        weight=weight.astype(np.float16),
        mixture=verdict.mixture.astype(np.float16) if verdict.weights.any() else None,
        teacher_weights=verdict.weights,
    )


def fuzziness(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Entropy of each pixel of [C, H, W] as a share of the greatest there is, [H, W]."""
    positive = np.maximum(probabilities, 1e-12)
    entropy = -(probabilities * np.log(positive)).sum(axis=0) / np.log(len(probabilities))
    return np.asarray(np.clip(entropy, 0, 1), dtype=np.float32)
