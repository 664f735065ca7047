"""One training from decoded data to result files."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import structlog
import torch

from histill.core.errors import WorkFailedError
from histill.core.manifests import LabelKind
from histill.core.specs import MultiTeacherSpec
from histill.distill.data import CropSampler, whole_strides
from histill.distill.dead_start import DeadStartError
from histill.distill.evaluate import evaluate
from histill.distill.loop import fit
from histill.distill.nets import build_network
from histill.distill.objective import Objective
from histill.distill.outputs import Outcome, describe, write_files
from histill.distill.panel import load_panel
from histill.distill.precision import InBfloat16
from histill.distill.predict import Normalized, Predictor
from histill.distill.reasons import DEAD_START, dataset_invalid
from histill.distill.run_checkpoint import RunCheckpoint, identity_of
from histill.distill.teacher_cache import TeacherCache
from histill.distill.teachers import judged_images, labeled_image

if TYPE_CHECKING:
    from torch import nn

    from histill.distill.data import TrainingImage
    from histill.distill.dataset import Dataset
    from histill.distill.devices import Place
    from histill.distill.evaluate import Evaluation
    from histill.distill.history import History
    from histill.distill.progress import Reporter
    from histill.distill.run_checkpoint import Saved
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
        evaluation = self.evaluate(net, thorough=True)
        halved = self.evaluate(InBfloat16(net), surfaces=False).scores.dice
        kept = history.best_step or history.steps[-1]
        history.validation.append((kept, evaluation.scores.dice))
        history.validation = sorted(dict(history.validation).items())
        outcome = Outcome(
            net=net,
            history=history,
            evaluation=evaluation,
            lost_in_bfloat16=evaluation.scores.dice - halved,
            seconds=history.earlier_s + time.monotonic() - started,
            restarts=starts - 1,
            place=f"{self.place.device}, {self.place.world} process(es)",
        )
        result = describe(self.order, self.dataset, outcome)
        log.info("validated", **{k: round(v, 4) for k, v in result.metrics.items()})
        scores = {f"val_{k}": v for k, v in result.metrics.items() if k in {"dice", "iou", "nsd2"}}
        self.reporter.report("exporting", steps, steps, metrics=scores, force=True)
        return write_files(
            self.workdir.result,
            self.order,
            self.dataset,
            outcome,
            result,
            quantizing=partial(self.reporter.report, "quantizing", steps, steps, force=True),
        )

    def prepare(self) -> list[TrainingImage]:
        """Training images with boundary weights and, if there are teachers, their mixture."""
        spec, manifests = self.order.spec, self.order.teachers
        spacing = self.spacing()
        if not isinstance(spec, MultiTeacherSpec):
            labeled = [e for e in self.dataset.training if e.target is not None]
            return [labeled_image(example, spec.boundary, spacing=spacing) for example in labeled]
        total = len(self.dataset.training)
        self.reporter.report("teachers", 0, total, force=True)
        cache = None
        if self.order.teacher_cache:
            folder = Path(self.order.teacher_cache)
            cache = TeacherCache(folder, limit=self.order.teacher_cache_bytes)
        dataset, device = self.order.dataset, self.place.device
        panel = load_panel(self.workdir, manifests, dataset, spec, device, cache)
        if cache is not None and self.place.world > 1:
            # Each process asks the teachers about its part, then all read the cache.
            own = self.dataset.training[self.place.rank :: self.place.world]
            for count, example in enumerate(own, start=1):
                panel.ask(example.image)
                self.reporter.report("teachers", min(count * self.place.world, total), total)
            self.place.meet()
        images = judged_images(
            self.dataset.training,
            panel,
            spec,
            spacing=spacing,
            done=lambda count: self.reporter.report("teachers", count, total),
        )
        if cache is not None and self.place.first:
            cache.trim()
        means = np.mean([image.teacher_weights for image in images], axis=0).tolist()
        names = [manifest.reference for manifest in manifests]
        log.info("teachers_weighed", **{n: round(m, 3) for n, m in zip(names, means, strict=True)})
        return images

    def spacing(self) -> float:
        """Side of a pixel in the unit of the spec's boundary.

        Raises:
            WorkFailedError: DATASET_INVALID; millimetres are asked for and not known.
        """
        if self.order.spec.boundary.unit == "px":
            return 1.0
        size = self.order.dataset.pixel_size_mm
        if not size:
            raise dataset_invalid(
                f"boundary.unit is mm, but {self.order.dataset.reference} has no pixel size",
                hint="Push the dataset with --pixel-size-mm, or give the boundary in px.",
            )
        return size

    def train(self, images: list[TrainingImage]) -> tuple[Normalized, History, int]:
        """The trained network, its curves, and the number of starts it took.

        Raises:
            WorkFailedError: DEAD_START; no start came to life.
        """
        checkpoint = RunCheckpoint(
            self.workdir.checkpoint,
            identity_of(self.order, self.place.world),
            self.place,
            every_s=self.order.checkpoint_s,
        )
        saved = checkpoint.read()
        for start in range(saved.shared["start"] if saved else 0, _STARTS):
            try:
                return *self.train_once(images, start, checkpoint, saved), start + 1
            except DeadStartError:
                saved = None
                log.warning("dead_start", start=start + 1, of=_STARTS)
        raise WorkFailedError(
            f"the network gave one class everywhere in each of {_STARTS} starts",
            reason=DEAD_START,
            hint="Use a wider network, more steps, or another learning rate.",
        )

    def seed_of(self, start: int) -> int:
        """Of a start, numbered from 0; in [0, 2^31)."""
        return (self.order.spec.training.seed + start * _NEXT_SEED) % _SEEDS

    def train_once(
        self,
        images: list[TrainingImage],
        start: int,
        checkpoint: RunCheckpoint,
        saved: Saved | None,
    ) -> tuple[Normalized, History]:
        """One start, from fresh weights or from what was saved of it.

        Raises:
            DeadStartError: It did not come to life.
        """
        spec, place = self.order.spec, self.place
        seed = self.seed_of(start)
        classes = len(self.order.dataset.classes)
        torch.manual_seed(seed)
        net = Normalized(
            build_network(spec.network, channels=self.order.dataset.channels, classes=classes),
            self.dataset.normalization,
        ).to(place.device)
        objective, labeled_share = Objective(), 1.0
        if isinstance(spec, MultiTeacherSpec):
            objective, labeled_share = Objective.of(spec), spec.labeled_share
        sampler = CropSampler(
            images,
            classes=classes,
            crop_size=whole_strides(spec.training.crop_size, spec.network.stride),
            batch_size=max(spec.training.batch_size, place.world),
            seed=seed,
            augment=spec.training.augment,
            labeled_share=labeled_share,
            rank=place.rank,
            world=place.world,
        )
        kept, history = fit(
            net,
            sampler,
            objective,
            training=spec.training,
            place=place,
            reporter=self.reporter,
            validate=self.validate,
            start=start,
            saved=saved,
            checkpoint=checkpoint,
        )
        return cast("Normalized", kept), history

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Dice and boundary score on the validation images, while training goes on."""
        scores = self.evaluate(net).scores
        return {"dice": scores.dice, "nsd2": scores.nsd2}

    def evaluate(
        self, net: nn.Module, *, thorough: bool = False, surfaces: bool = True
    ) -> Evaluation:
        """Scores on the validation images."""
        return evaluate(
            Predictor(net, self.order.spec.network.stride, self.place.device),
            self.dataset.validation,
            classes=len(self.order.dataset.classes),
            thorough=thorough,
            surfaces=surfaces,
            objects=self.order.dataset.label_kind is LabelKind.INSTANCE,
        )
