"""The training report: one HTML file that needs nothing else."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from histill.core.specs import MultiTeacherSpec
from histill.distill import report_charts, report_examples, wording
from histill.distill.page import code, heading, page, pairs, paragraph, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from histill.core.manifests import ArtifactFile, ModelManifest
    from histill.core.specs import TrainingSpec
    from histill.distill.evaluate import Evaluation
    from histill.distill.examples import Example
    from histill.distill.history import History
    from histill.distill.workdir import RunOrder, RunResult

_LIBRARIES = ("torch", "monai", "numpy", "scipy", "onnx", "onnxruntime", "histill")


def render_report(
    order: RunOrder,
    result: RunResult,
    *,
    history: History,
    evaluation: Evaluation,
    validation: Sequence[Example],
    facts: Mapping[str, object],
) -> str:
    """The report as HTML.

    Args:
        order: What was asked for.
        result: What came out.
        history: The curves.
        evaluation: Scores and masks on the validation images.
        validation: Those images, in the evaluation's order.
        facts: Further lines for the table of circumstances, e.g. images and restarts.
    """
    told = _Report(order, result, facts)
    sections = {
        "Measures": told.measures(len(evaluation.masks)),
        "Classes": told.classes(evaluation),
        "Training": report_charts.training(history),
        "Teachers": told.teachers(history),
        "Examples": report_examples.examples(evaluation, validation, result.classes),
        "Confusion": report_charts.confusion(evaluation.confusion, result.classes),
        "Calibration": report_charts.calibration(evaluation.calibration),
        "Size and speed": told.weight(),
        "Circumstances": told.circumstances(history),
        "Specification": code(order.spec.model_dump_json(indent=2)),
        "Sources": told.sources(),
        "Versions": versions(),
    }
    return page(order.spec.output_model, told.head(), {k: v for k, v in sections.items() if v})


def versions() -> str:
    """What it ran on, as a table."""
    return pairs(
        {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
    )


@dataclass(frozen=True)
class _Report:
    """Sections that are words and tables."""

    order: RunOrder
    result: RunResult
    facts: Mapping[str, object]

    def head(self) -> str:
        spec, network = self.order.spec, self.order.spec.network
        how = "trained from labels"
        if isinstance(spec, MultiTeacherSpec):
            how = f"distilled from {', '.join(t.reference for t in self.order.teachers)}"
        written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        return paragraph(
            f"{network.architecture}, width {network.width}, depth {network.depth}, {how} on "
            f"{self.order.dataset.reference} by {self.order.job}. Written {written}."
        )

    def measures(self, images: int) -> str:
        training = self.order.spec.training
        rows = wording.measures(self.result.metrics)
        role = wording.validation_role(patience=training.patience, validations=training.validations)
        return (
            paragraph(f"On {images} validation images; overlaps over all their pixels together.")
            + table(("measure", "value", "how to read it"), rows, numbers=range(1, 2))
            + paragraph(role, note=True)
        )

    def classes(self, evaluation: Evaluation) -> str:
        reference, predicted = (evaluation.confusion.sum(axis=axis) for axis in (1, 0))
        total = max(1, int(reference.sum()))
        rows = [
            (
                name,
                *map(wording.ratio, (scores.dice, scores.iou, scores.nsd2)),
                f"{reference[index] / total:.2%}",
                f"{predicted[index] / total:.2%}",
            )
            for index, (name, scores) in enumerate(
                zip(self.result.classes[1:], evaluation.by_class, strict=True), start=1
            )
        ]
        head = ("class", "Dice", "IoU", "surface Dice", "of pixels", "of predicted")
        counted = ""
        if evaluation.panoptic:
            panoptic = evaluation.panoptic
            counted = paragraph(
                f"Single objects: {panoptic.found} found, {panoptic.missed} missed, "
                f"{panoptic.extra} extra; recognition quality {wording.ratio(panoptic.rq)}, "
                f"segmentation quality {wording.ratio(panoptic.sq)}."
            )
        missed = paragraph(
            f"Times a class was missed in an image altogether, or found where there is none: "
            f"{evaluation.misses}."
        )
        return table(head, rows, numbers=range(1, 6)) + missed + counted

    def teachers(self, history: History) -> str:
        teachers = self.order.teachers
        if not teachers:
            return ""
        means = report_charts.mean_weights(history, len(teachers))
        rows = [
            (teacher.reference, network_words(teacher), recorded_dice(teacher), wording.ratio(mean))
            for teacher, mean in zip(teachers, means, strict=True)
        ]
        head = ("teacher", "network", "recorded Dice", "mean weight")
        chart = report_charts.teacher_weights(history, [t.reference for t in teachers])
        return table(head, rows, numbers=range(2, 4)) + chart

    def weight(self) -> str:
        metrics = self.result.metrics
        rows: dict[str, object] = {"parameters": f"{self.result.parameters:,}"}
        if "model_bytes" in metrics:
            number = metrics["model_bytes"]
            rows["size of model.onnx"] = f"{wording.size(number)} ({number:,.0f} bytes)"
        if "latency_ms" in metrics:
            rows["time for one image"] = (
                f"{metrics['latency_ms']:.1f} ms (median of five, one thread of this machine's "
                "CPU, ONNX Runtime, the first validation image)"
            )
        return pairs(rows)

    def circumstances(self, history: History) -> str:
        seconds = self.result.metrics.get("training_seconds")
        took = {} if seconds is None else {"it took": wording.duration(seconds)}
        return pairs(
            {
                "job": f"{self.order.job}, attempt {self.order.attempt}",
                "dataset": self.order.dataset.reference,
                "seed": self.order.spec.training.seed,
                **took,
                "weights": _kept(history, self.order.spec.training),
                **self.facts,
            }
        )

    def sources(self) -> str:
        dataset = self.order.dataset
        blocks = [("Dataset", dataset.reference, dataset.files)]
        blocks += [("Teacher", t.reference, t.files) for t in self.order.teachers]
        about = paragraph(dataset.description) if dataset.description else ""
        return about + "".join(
            heading(f"{kind} {reference}") + pairs(digests(files), digests=True)
            for kind, reference, files in blocks
        )


def _kept(history: History, training: TrainingSpec) -> str:
    """Which weights of the run count, in words."""
    reached = max([*history.steps, *(step for step, _ in history.validation)], default=0)
    words = f"of the last of {training.steps} steps"
    if history.best_step is not None:
        early = "" if reached >= training.steps else f", ended early, about step {reached}"
        words = f"of step {history.best_step}, the best in validation{early}"
    if training.ema_decay:
        words += f"; exponential average, decay {training.ema_decay:g}"
    return words


def digests(files: Sequence[ArtifactFile]) -> dict[str, object]:
    """Names of files with their digests and sizes."""
    return {file.path: f"sha256 {file.sha256}, {file.size:,} bytes" for file in files}


def network_words(teacher: ModelManifest) -> str:
    """A teacher's network in words."""
    network = teacher.network
    if network is None:
        return "TorchScript program"
    words = f"{network.architecture}, width {network.width}, depth {network.depth}"
    return f"{words}, {teacher.parameters:,} parameters" if teacher.parameters else words


def recorded_dice(teacher: ModelManifest) -> str:
    """The Dice that a teacher's manifest holds."""
    return wording.ratio(teacher.metrics.get("dice", float("nan")))
