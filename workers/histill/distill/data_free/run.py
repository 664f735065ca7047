"""One data-free job from teachers to result files. It opens no dataset, ever."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import torch

from histill.core.samples import sample_side
from histill.distill.data_free.distilling import Distillation
from histill.distill.data_free.engine import Engine
from histill.distill.data_free.generator import Generator
from histill.distill.data_free.outcome import DataFreeOutcome, write_files
from histill.distill.data_free.shares import share_bounds
from histill.distill.data_free.teachers import load_council
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.run_checkpoint import RunCheckpoint, identity_of

if TYPE_CHECKING:
    from histill.core.specs import DataFreeSpec
    from histill.distill.devices import Place
    from histill.distill.progress import Reporter
    from histill.distill.workdir import DataFreeOrder, RunResult, Workdir

log = structlog.get_logger()

_NEXT_RANK = 7919  # far from what people choose as neighbouring seeds
_LEAST_BATCH = 4
_GREY = 0.5  # what samples start from where the teacher has no constants of its own


@dataclass(frozen=True)
class DataFreeRun:
    """Everything that a data-free job needs.

    Attributes:
        workdir: Where the teachers are and results go.
        order: What to do.
        place: This process among those of the run.
        reporter: Hears about progress.
    """

    workdir: Workdir
    order: DataFreeOrder
    place: Place
    reporter: Reporter

    def execute(self) -> RunResult | None:
        """Distils, exports and writes the files; all but ``result.json``.

        Returns:
            What was made; ``None`` in all processes but the first.

        Raises:
            WorkFailedError: With its reason and a hint.
        """
        started = time.monotonic()
        run = self.distillation()
        student = run.run()
        if not self.place.first:
            return None
        steps = self.order.spec.training.steps
        agreed = {f"agreement_{k}": v for k, v in run.held.agreement(student).items()}
        log.info("held_out", **{name: round(value, 4) for name, value in agreed.items()})
        self.reporter.report("exporting", steps, steps, metrics=agreed, force=True)
        outcome = DataFreeOutcome(
            student=student,
            engine=run.engine,
            curves=run.curves,
            agreed=agreed,
            seconds=time.monotonic() - started,
            rollbacks=run.rollbacks,
            place=f"{self.place.device}, {self.place.world} process(es)",
        )
        return write_files(
            self.workdir.result,
            self.order,
            outcome,
            quantizing=partial(self.reporter.report, "quantizing", steps, steps, force=True),
        )

    @property
    def spec(self) -> DataFreeSpec:
        """The job's spec as each process follows it: with its part of a batch."""
        training = self.order.spec.training
        part = max(_LEAST_BATCH, -(-training.batch_size // self.place.world))
        own = training.model_copy(update={"batch_size": part})
        return self.order.spec.model_copy(update={"training": own})

    def distillation(self) -> Distillation:
        """The run, not yet begun."""
        order, device = self.order, self.place.device
        spec, first = self.spec, order.teachers[0]
        folders = [self.workdir.teacher(index) for index in range(len(order.teachers))]
        council = load_council(folders, order.teachers, device)
        torch.manual_seed(spec.training.seed)
        student = Normalized(
            build_network(spec.student, channels=first.channels, classes=len(first.classes)),
            first.normalization,
        ).to(device)
        constant = first.normalization.scaling == "constant"

        def make_generator() -> Generator:
            return Generator(
                channels=first.channels,
                side=sample_side(spec, order.teachers),
                width=spec.generators.width,
                noise=spec.generators.noise,
                mean=first.normalization.mean if constant else [_GREY] * first.channels,
                spatial=first.task == "segmentation",
            ).to(device)

        bounds = None
        if first.task == "segmentation":
            low, high = share_bounds(first.classes, spec.class_shares, first.class_shares)
            bounds = low.to(device), high.to(device)
        engine = Engine(spec, council, student, make_generator, bounds=bounds, place=self.place)
        # The same weights everywhere, but other noise in each process.
        torch.manual_seed(spec.training.seed + _NEXT_RANK * self.place.rank)
        checkpoint = RunCheckpoint(
            self.workdir.checkpoint,
            identity_of(order, self.place.world),
            self.place,
            every_s=order.checkpoint_s,
        )
        return Distillation(engine, self.place, self.reporter, checkpoint)
