"""Ratios of times taken in turns in one process, so that both sides see the same machine."""

from __future__ import annotations

import itertools
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from histill.core.specs import MultiTeacherSpec, TrainingSpec
from histill.distill.data import CropSampler, TrainingImage
from histill.distill.devices import Place
from histill.distill.loop import fit
from histill.distill.nets import build_network
from histill.distill.objective import Objective, TensorBatch
from histill.distill.predict import Normalized
from histill.distill.prefetch import prefetched
from histill.distill.progress import Reporter
from histill.distill.stepping import Trainer
from nuclei import CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from histill.core.manifests import Normalization
    from histill.core.specs import NetworkSpec
    from measures import Model

_CPU = Place(torch.device("cpu"))
_STEPS, _ROUNDS = 60, 5


def in_turns(sides: Sequence[Callable[[], object]], *, rounds: int = _ROUNDS) -> list[float]:
    """Median seconds of each side over some rounds, after one that warms up."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds + 1):
        for side, into in zip(sides, times, strict=True):
            started = time.perf_counter()
            side()
            if turn:
                into.append(time.perf_counter() - started)
    return [statistics.median(each) for each in times]


def step_seconds(
    images: Sequence[TrainingImage],
    network: NetworkSpec,
    spec: MultiTeacherSpec,
    normalization: Normalization,
) -> tuple[float, float]:
    """Seconds a step from labels alone, and with three teachers' cached mixture.

    Both draw, augment, compute and update as the trainer does.
    """
    labeled = [
        TrainingImage(**{**vars(i), "mixture": None, "teacher_weights": np.zeros(0, np.float32)})
        for i in images
        if i.labeled
    ]

    def side(chosen: Sequence[TrainingImage], objective: Objective) -> Callable[[], None]:
        trainer = Trainer(
            _fresh(network, normalization), objective, training=_training(), place=_CPU
        )
        sampler = _sampler(chosen)
        first = itertools.count(0, _STEPS)

        def run() -> None:
            start = next(first)
            for drawn in prefetched(lambda i: sampler.batch(start + i), _STEPS):
                trainer.step([TensorBatch.of(drawn, _CPU.device)], number=1)

        return run

    alone, taught = in_turns([side(labeled, Objective()), side(images, Objective.of(spec))])
    return alone / _STEPS, taught / _STEPS


def throughput_ratio(
    images: Sequence[TrainingImage], network: NetworkSpec, normalization: Normalization
) -> tuple[float, float]:
    """Images a second of the whole trainer, and of a bare loop over one batch in memory.

    The bare loop has the same network, batch, loss and optimiser, and nothing else: no
    drawing, no augmentation, no clipping, no reading of losses, no events.
    """
    labeled = [TrainingImage(**{**vars(i), "mixture": None}) for i in images if i.labeled]
    sampler, training = _sampler(labeled), _training()

    def ours() -> None:
        fit(
            _fresh(network, normalization),
            sampler,
            Objective(),
            training=training.model_copy(update={"steps": _STEPS, "validations": 0}),
            place=_CPU,
            reporter=Reporter(None),
            validate=lambda _: {"dice": 0.0},
        )

    def bare() -> None:
        net, objective = _fresh(network, normalization).train(), Objective()
        optimizer = torch.optim.AdamW(net.parameters(), lr=training.learning_rate)
        batch = TensorBatch.of(sampler.batch(0), _CPU.device)
        for _ in range(_STEPS):
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(objective(net(batch.image), batch)["loss"])
            optimizer.step()

    seconds = in_turns([ours, bare])
    return tuple(_STEPS * training.batch_size / each for each in seconds)  # type: ignore[return-value]


def inference_milliseconds(models: Sequence[Model], image: np.ndarray) -> list[float]:
    """Median milliseconds of each model on an image, one thread, taken in turns."""
    return [1000 * each for each in in_turns([partial(model.mask, image) for model in models])]


def _training() -> TrainingSpec:
    return TrainingSpec(steps=10_000)  # of the schedule; the loops end long before


def _fresh(network: NetworkSpec, normalization: Normalization) -> Normalized:
    torch.manual_seed(0)
    return Normalized(build_network(network, channels=3, classes=len(CLASSES)), normalization)


def _sampler(images: Sequence[TrainingImage]) -> CropSampler:
    training = _training()
    return CropSampler(
        images,
        classes=len(CLASSES),
        crop_size=training.crop_size,
        batch_size=training.batch_size,
        seed=0,
        augment=True,
    )
