"""The report of a data-free run: one HTML file that needs nothing else."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from histill.distill import figures, wording
from histill.distill.data_free import privacy
from histill.distill.data_free.sample_pictures import sample_grid
from histill.distill.page import boxes, code, heading, page, pairs, paragraph, table
from histill.distill.report import digests, network_words, recorded_dice, versions
from histill.distill.report_charts import drawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from histill.distill.data_free.curves import Curves
    from histill.distill.data_free.outcome import DataFreeOutcome
    from histill.distill.workdir import DataFreeOrder, RunResult

NAMES = {"hard": "G1, difficult", "simple": "G2, simple"}
_ALARMS = {
    "DIVERGED": "a loss was not finite, or many times what it had been",
    "COLLAPSED": "the student had lost what it knew, or all samples looked alike",
    "VANISHED": "student and teachers agreed on everything that G1 made",
    "DEAD_CLASS": "a class did not occur in samples any more",
}


def render_report(order: DataFreeOrder, result: RunResult, outcome: DataFreeOutcome) -> str:
    """The report as HTML."""
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    spec, curves = order.spec, outcome.curves
    names = ", ".join(teacher.reference for teacher in order.teachers)
    head = paragraph(
        f"{spec.student.architecture}, width {spec.student.width}, distilled from {names} without "
        f"data by {order.job}. Written {written}."
    )
    sections = {
        "Privacy": _privacy(order),
        "Agreement": _agreement(curves, outcome),
        "Samples": _samples(order, curves),
        "Generators": _generators(curves),
        "Failures": _failures(curves, outcome),
        "Teachers": _teachers(order),
        "Size and speed": pairs(
            {
                "parameters": f"{result.parameters:,}",
                "size of model.onnx": wording.size(result.metrics["model_bytes"]),
                "time for one image": (
                    f"{result.metrics['latency_ms']:.1f} ms ({result.image_size} x "
                    f"{result.image_size} pixels, median of five, one thread of this machine's "
                    "CPU, ONNX Runtime)"
                ),
            }
        ),
        "Circumstances": pairs(
            {
                "job": f"{order.job}, attempt {order.attempt}",
                "seed": spec.training.seed,
                "it took": wording.duration(outcome.seconds),
                "weights": f"of step {curves.kept_step} of {spec.training.steps}",
                "trained on": outcome.place,
                "layers with statistics": outcome.engine.council.layers,
            }
        ),
        "Specification": code(spec.model_dump_json(indent=2)),
        "Sources": "".join(
            heading(f"Teacher {teacher.reference}") + pairs(digests(teacher.files), digests=True)
            for teacher in order.teachers
        ),
        "Versions": versions(),
    }
    return page(spec.output_model, head, {name: part for name, part in sections.items() if part})


def _privacy(order: DataFreeOrder) -> str:
    job = order.job.removeprefix("jobs/")
    kept = (
        "The generators and some samples of each were registered with the student, as asked for."
        if order.spec.keep_generators
        else "The generators and some samples of each are kept with the job, and deleted with it."
    )
    return (
        paragraph(privacy.touched(order.teachers))
        + paragraph(privacy.guarantee(order.teachers))
        + paragraph(kept)
        + paragraph(
            "Whether a sample is a copy of an image that a teacher was trained on can be checked "
            "where those images are, and whether single images can be told from the student where "
            "some of them are at hand. Neither command sends an image anywhere:"
        )
        + code(
            f"histill privacy neighbours {job} --folder TRAINING_IMAGES\n"
            f"histill privacy audit {order.spec.output_model} --members TRAINING_IMAGES "
            "--non-members OTHER_IMAGES"
        )
    )


def _agreement(curves: Curves, outcome: DataFreeOutcome) -> str:
    measure = "share of equal classes" if outcome.engine.bounds is None else "Dice of class maps"
    rows = [
        (NAMES[kind], wording.ratio(value))
        for kind in NAMES
        if (value := outcome.agreed.get(f"agreement_{kind}")) is not None
    ]
    agreed = _named(curves, {f"agreement_{kind}": name for kind, name in NAMES.items()})
    lost = _named(curves, {"forgetting": "forgotten", "hard_share": "share of G1"})
    return (
        paragraph(
            f"Of the kept student with its teachers ({measure}), on samples that it never learnt "
            "from. It is no accuracy: no real image was at hand."
        )
        + table(("held samples of", "agreement"), rows, numbers=range(1, 2))
        + boxes(
            [
                drawn(
                    figures.lines(curves.steps, agreed, label="agreement"),
                    _told("Agreement on held samples over the steps", agreed),
                    "Agreement with the teachers on held samples.",
                ),
                drawn(
                    figures.lines(curves.steps, lost, label="share"),
                    _told("Forgetting and the share of G1 over the steps", lost),
                    "Agreement on simple samples lost since its best, and the share of G1 in new "
                    "samples, which answers to it when the rule is adaptive.",
                ),
            ],
            "grid",
        )
    )


def _generators(curves: Curves) -> str:
    charts = []
    for label, keys, caption in (
        ("loss", {"loss": "student"}, "The student's loss."),
        (
            "distance",
            {f"{kind}_distance": name for kind, name in NAMES.items()},
            "Distance of a batch's layer statistics from those that the teachers store.",
        ),
        (
            "disagreement",
            {"hard_apart": NAMES["hard"]},
            "Disagreement on G1's samples, relative to the size of the teachers' logits.",
        ),
        ("bytes", {"spread": "spread"}, "Spread of a pixel over a batch of samples."),
    ):
        series = _named(curves, keys)
        if series:
            chart = figures.lines(curves.steps, series, label=label)
            charts.append(drawn(chart, _told(caption, series), caption))
    return boxes(charts, "grid")


def _samples(order: DataFreeOrder, curves: Curves) -> str:
    words = (
        "In each block from above: samples, the teachers' class map on them, and where the student "
        "differed (blue: it missed foreground, red: it saw some that is none)."
        if order.teachers[0].task == "segmentation"
        else "Under each block: the teachers' class of every sample, in its order."
    )
    parts = [paragraph(words)]
    for grid in curves.grids:
        picture, caption = sample_grid(grid, order.teachers[0].classes)
        parts.append(heading(f"Step {grid.step}: {NAMES[grid.kind]}") + picture)
        if caption:
            parts.append(paragraph(caption, note=True))
    return "".join(parts)


def _failures(curves: Curves, outcome: DataFreeOutcome) -> str:
    if not curves.alarms:
        return paragraph(
            "None was noticed: no divergence, no collapse, no vanishing disagreement, no class "
            "that died out."
        )
    rows = [(str(step), str(alarm), _ALARMS[alarm]) for step, alarm in curves.alarms]
    return table(("step", "failure", "what it was"), rows, numbers=range(1)) + paragraph(
        f"The run went back to its last good state {outcome.rollbacks} times, each time with half "
        "the adversarial weight and the generators' learning rate; after DIVERGED with half the "
        "student's too, after DEAD_CLASS with twice the weight of the balance. Remembered and held "
        "samples stay."
    )


def _teachers(order: DataFreeOrder) -> str:
    rows = [
        (teacher.reference, network_words(teacher), recorded_dice(teacher))
        for teacher in order.teachers
    ]
    return table(("teacher", "network", "recorded Dice"), rows, numbers=range(2, 3))


def _named(curves: Curves, names: Mapping[str, str]) -> dict[str, list[float]]:
    """Curves that there are, by the names that people read."""
    return {
        name: curves.values[key]
        for key, name in names.items()
        if not all(map(math.isnan, curves.values.get(key, [math.nan])))
    }


def _told(what: str, series: Mapping[str, Sequence[float]]) -> str:
    """A chart in words: where each curve begins and ends."""
    ends = [
        f"{name} from {known[0]:.3g} to {known[-1]:.3g}"
        for name, values in series.items()
        if (known := [value for value in values if not math.isnan(value)])
    ]
    return f"{what.rstrip('.')}: {', '.join(ends)}."
