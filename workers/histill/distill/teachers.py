"""Loads the teachers and has them judge each training image, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import structlog
from safetensors import SafetensorError
from safetensors.torch import load_file

from histill.core.manifests import WEIGHTS
from histill.distill.boundary import boundary_weight
from histill.distill.data import TrainingImage
from histill.distill.multi_teacher import judge
from histill.distill.nets import build_network
from histill.distill.predict import Normalized, Predictor
from histill.distill.reasons import teacher_mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import torch

    from histill.core.manifests import DatasetManifest, ModelManifest
    from histill.core.specs import BoundaryWeighting, MultiTeacherSpec
    from histill.distill.examples import Example
    from histill.distill.workdir import Workdir

log = structlog.get_logger()


def check_teacher(teacher: ModelManifest, dataset: DatasetManifest) -> None:
    """Refuses a teacher that cannot speak about a dataset.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; classes or channels differ.
    """
    if teacher.classes != dataset.classes:
        raise teacher_mismatch(
            f"teacher {teacher.reference} knows the classes {', '.join(teacher.classes)}; "
            f"dataset {dataset.reference} has {', '.join(dataset.classes)}",
            hint="Classes must have the same names in the same order.",
        )
    if teacher.channels != dataset.channels:
        raise teacher_mismatch(
            f"teacher {teacher.reference} takes {teacher.channels} channels; images of "
            f"{dataset.reference} have {dataset.channels}",
            hint="Choose teachers trained on images of the same kind.",
        )


def load_teacher(path: Path, manifest: ModelManifest, device: torch.device) -> Predictor:
    """A teacher ready to predict.

    Args:
        path: Folder with its ``weights.safetensors``.
        manifest: Its network and normalisation.
        device: Where it runs.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; the weights cannot be read or are of another
            network.
    """
    net = build_network(manifest.network, channels=manifest.channels, classes=len(manifest.classes))
    try:
        net.load_state_dict(load_file(path / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as exc:
        raise teacher_mismatch(
            f"weights of teacher {manifest.reference} do not fit its network: "
            f"{str(exc).splitlines()[0]}",
            hint="Its manifest must describe the network that the weights were saved from.",
        ) from exc
    net.requires_grad_(requires_grad=False)
    return Predictor(
        Normalized(net, manifest.normalization).to(device), manifest.network.stride, device
    )


def load_teachers(
    workdir: Workdir,
    manifests: Sequence[ModelManifest],
    dataset: DatasetManifest,
    device: torch.device,
) -> list[Predictor]:
    """All teachers of a run, in order.

    Raises:
        WorkFailedError: TEACHER_MISMATCH.
    """
    for manifest in manifests:
        check_teacher(manifest, dataset)
    return [load_teacher(workdir.teacher(i), m, device) for i, m in enumerate(manifests)]


def priors_of(manifests: Sequence[ModelManifest]) -> npt.NDArray[np.float32]:
    """Recorded validation Dice of each teacher; one without a record gets the others' mean."""
    recorded = [m.metrics.get("dice", float("nan")) for m in manifests]
    known = [value for value in recorded if np.isfinite(value)]
    mean = float(np.mean(known)) if known else 1.0
    return np.array([v if np.isfinite(v) else mean for v in recorded], dtype=np.float32)


def labeled_image(example: Example, boundary: BoundaryWeighting) -> TrainingImage:
    """A labelled image without teachers."""
    if example.target is None:
        raise ValueError(example.key)
    return TrainingImage(
        image=example.image,
        target=example.target,
        labeled=True,
        weight=boundary_weight(example.target, boundary).astype(np.float16),
        mixture=None,
        teacher_weights=np.zeros(0, dtype=np.float32),
    )


def judged_images(
    examples: Sequence[Example],
    teachers: Sequence[Predictor],
    manifests: Sequence[ModelManifest],
    spec: MultiTeacherSpec,
) -> Iterator[TrainingImage]:
    """Images with the teachers' mixture; boundaries of unlabelled ones are the consensus's.

    A teacher whose output is not finite on an image is left out there, and named in the
    log once.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; no teacher has a finite output anywhere.
    """
    priors, silent, spoken = priors_of(manifests), set[int](), False
    for example in examples:
        verdict = judge(
            np.stack([teacher.logits(example.image) for teacher in teachers]),
            example.target,
            weighting=spec.teacher_weighting,
            temperature=spec.temperature,
            priors=priors,
        )
        for index, usable in enumerate(verdict.usable):
            if not usable and index not in silent:
                silent.add(index)
                log.warning(
                    "teacher_excluded",
                    teacher=manifests[index].reference,
                    image=example.key,
                    why="its output is not finite",
                )
        anyone = bool(verdict.usable.any())
        spoken |= anyone
        consensus = verdict.consensus.argmax(axis=0).astype(np.uint8)
        shape = example.target if example.target is not None else consensus
        yield TrainingImage(
            image=example.image,
            target=example.target if example.target is not None else np.zeros_like(consensus),
            labeled=example.target is not None,
            weight=boundary_weight(shape, spec.boundary).astype(np.float16),
            mixture=verdict.mixture.astype(np.float16) if anyone else None,
            teacher_weights=verdict.weights.mean(axis=(1, 2)),
        )
    if not spoken:
        raise teacher_mismatch(
            "no teacher gives finite outputs on these images",
            hint="Look at the teachers' weights and normalisation: they hold NaN or overflow.",
        )
