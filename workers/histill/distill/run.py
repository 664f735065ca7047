"""One training from decoded data to result files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from histill.core.errors import WorkFailedError
from histill.core.specs import MultiTeacherSpec
from histill.distill.data import CropSampler
from histill.distill.evaluate import evaluate
from histill.distill.loop import DeadStartError, History, fit
from histill.distill.nets import build_network
from histill.distill.objective import Objective
from histill.distill.outputs import Outcome, describe, write_files
from histill.distill.predict import Normalized, Predictor
from histill.distill.reasons import DEAD_START
from histill.distill.teachers import judged_images, labeled_image, load_teachers

if TYPE_CHECKING:
    from histill.distill.data import TrainingImage
    from histill.distill.dataset import Dataset
    from histill.distill.devices import Place
    from histill.distill.evaluate import Evaluation
    from histill.distill.progress import Reporter
    from histill.distill.workdir import RunOrder, RunResult, Workdir

log = structlog.get_logger()

_STARTS = 3
_NEXT_SEED = 1_000_003  # far from what people choose as neighbouring seeds
_SEEDS = 2**31


@dataclass(frozen=True)
class Run:
    """Everything that the steps of one training need.

    Attributes:
        workdir: Where results go.
        order: What to do.
        dataset: The decoded images.
        place: This process among those of the run.
        reporter: Hears about progress.
    """

    workdir: Workdir
    order: RunOrder
    dataset: Dataset
    place: Place
    reporter: Reporter

    def execute(self) -> RunResult | None:
        """Trains, scores, exports and writes the files; all but ``result.json``.

        Returns:
            What was made; ``None`` in all processes but the first.

        Raises:
            WorkFailedError: With its reason and a hint.
        """
        started = time.monotonic()
        steps = self.order.spec.training.steps
        net, history, starts = self.train(self.prepare())
        if not self.place.first:
            return None
        self.reporter.report("validating", steps, steps, force=True)
        evaluation = self.evaluate(net)
        history.validation.append((steps, evaluation.scores.dice))
        outcome = Outcome(
            net=net,
            history=history,
            evaluation=evaluation,
            seconds=time.monotonic() - started,
            restarts=starts - 1,
            place=f"{self.place.device}, {self.place.world} process(es)",
        )
        result = describe(self.order, self.dataset, outcome)
        log.info("validated", **{k: round(v, 4) for k, v in result.metrics.items()})
        scores = {f"val_{k}": v for k, v in result.metrics.items() if k in {"dice", "iou", "nsd2"}}
        self.reporter.report("exporting", steps, steps, metrics=scores, force=True)
        write_files(self.workdir.result, self.order, self.dataset, outcome, result)
        return result

    def prepare(self) -> list[TrainingImage]:
        """Training images with boundary weights and, if there are teachers, their mixture."""
        spec, manifests = self.order.spec, self.order.teachers
        if not isinstance(spec, MultiTeacherSpec):
            labeled = [e for e in self.dataset.training if e.target is not None]
            return [labeled_image(example, spec.boundary) for example in labeled]
        total = len(self.dataset.training)
        self.reporter.report("teachers", 0, total, force=True)
        teachers = load_teachers(self.workdir, manifests, self.order.dataset, self.place.device)
        images = []
        for image in judged_images(self.dataset.training, teachers, manifests, spec):
            images.append(image)
            self.reporter.report("teachers", len(images), total)
        means = np.mean([image.teacher_weights for image in images], axis=0).tolist()
        names = [manifest.reference for manifest in manifests]
        log.info("teachers_weighed", **{n: round(m, 3) for n, m in zip(names, means, strict=True)})
        return images

    def train(self, images: list[TrainingImage]) -> tuple[Normalized, History, int]:
        """The trained network, its curves, and the number of starts it took.

        Raises:
            WorkFailedError: DEAD_START; no start came to life.
        """
        seed = self.order.spec.training.seed
        for start in range(_STARTS):
            try:
                return *self.train_once(images, (seed + start * _NEXT_SEED) % _SEEDS), start + 1
            except DeadStartError:
                log.warning("dead_start", start=start + 1, of=_STARTS)
        raise WorkFailedError(
            f"the network gave one class everywhere in each of {_STARTS} starts",
            reason=DEAD_START,
            hint="Use a wider network, more steps, or another learning rate.",
        )

    def train_once(self, images: list[TrainingImage], seed: int) -> tuple[Normalized, History]:
        """One start from fresh weights."""
        spec, place = self.order.spec, self.place
        classes = len(self.order.dataset.classes)
        torch.manual_seed(seed)
        net = Normalized(
            build_network(spec.network, channels=self.order.dataset.channels, classes=classes),
            self.dataset.normalization,
        ).to(place.device)
        # The network halves its input down to crop / stride pixels; norms need two at least.
        stride = spec.network.stride
        sampler = CropSampler(
            images,
            classes=classes,
            crop_size=max(2, -(-spec.training.crop_size // stride)) * stride,
            batch_size=place.share(spec.training.batch_size),
            seed=seed,
            augment=spec.training.augment,
            rank=place.rank,
        )
        objective = Objective()
        if isinstance(spec, MultiTeacherSpec):
            objective = Objective(
                supervised_weight=spec.supervised_weight,
                distillation_weight=spec.distillation_weight,
                temperature=spec.temperature,
            )
        history = fit(
            place.distributed(net),
            sampler,
            objective,
            training=spec.training,
            place=place,
            reporter=self.reporter,
            validate=lambda: self.evaluate(net, surfaces=False).scores.dice,
        )
        return net, history

    def evaluate(self, net: Normalized, *, surfaces: bool = True) -> Evaluation:
        """Scores on the validation images."""
        return evaluate(
            Predictor(net, self.order.spec.network.stride, self.place.device),
            self.dataset.validation,
            classes=len(self.order.dataset.classes),
            surfaces=surfaces,
        )
