"""The card of a student that was distilled without data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.core.specs import LENET_SIDE
from histill.distill import wording
from histill.distill.card import document, plain, reproducibility, table, teachers, usage
from histill.distill.data_free import privacy

if TYPE_CHECKING:
    from histill.distill.data_free.outcome import DataFreeOutcome
    from histill.distill.workdir import DataFreeOrder, RunResult

_MODES = {
    "average": "G1 seeks difficult samples, G2 is a slow average of it",
    "separate": "G1 seeks difficult samples, G2 makes such as the teachers are sure of",
    "hard": "G1 alone, which seeks difficult samples",
    "simple": "G2 alone, which makes such as the teachers are sure of",
}


def model_card(order: DataFreeOrder, result: RunResult, outcome: DataFreeOutcome) -> str:
    """The card in Markdown."""
    classifies = order.teachers[0].task == "classification"
    return document(
        order.spec.output_model,
        {
            "Model": _model(order, result),
            "Data": privacy.touched(order.teachers),
            "Privacy": privacy.guarantee(order.teachers),
            "Training": _training(order, outcome),
            "Teachers": teachers(order),
            "Measures": _measures(outcome),
            "Intended use": (
                "The task of its teachers, on images like those that they were trained on, as a "
                "help to people who check the result."
            ),
            "Limits": _limits(),
            "How to use": _classifier()
            if classifies
            else usage(order.spec.output_model, result.metrics),
            "Reproducibility": reproducibility(order, "all teachers"),
        },
    )


def _model(order: DataFreeOrder, result: RunResult) -> str:
    network, metrics = order.spec.network, result.metrics
    what = "a pixel"
    size = "of any size"
    if network.task == "classification":
        what, size = "an image", f"of {LENET_SIDE} x {LENET_SIDE} pixels"
    return (
        f"A {network.architecture} of width {network.width} with {result.parameters:,} parameters, "
        f"distilled without data from {', '.join(t.reference for t in order.teachers)}.\n\n"
        f"- Input: 8-bit images with {result.channels} channels, {size}.\n"
        f"- Output: one of {len(result.classes)} classes {what}: "
        f"{', '.join(map(plain, result.classes))}.\n"
        f"- Size: {wording.size(metrics['model_bytes'])} as ONNX.\n"
        f"- Speed: {metrics['latency_ms']:.1f} ms for an image of {result.image_size} x "
        f"{result.image_size} pixels, on one thread of the CPU it was trained beside."
    )


def _training(order: DataFreeOrder, outcome: DataFreeOutcome) -> str:
    spec = order.spec
    return (
        f"Generators: {_MODES[spec.generators.mode]}; "
        f"{spec.training.steps} steps of the student on {spec.training.batch_size} samples, "
        f"{spec.training.student_steps} for each step of the generators. Rollbacks after a "
        f"failure that was noticed: {outcome.rollbacks}. The student of step "
        f"{outcome.curves.kept_step} was kept, which agreed best with the teachers on held samples."
    )


def _measures(outcome: DataFreeOutcome) -> str:
    names = {"hard": "G1", "simple": "G2"}
    rows = [
        (
            f"agreement with the teachers on held samples of {names[kind.removeprefix(_PREFIX)]}",
            wording.ratio(value),
        )
        for kind, value in outcome.agreed.items()
    ]
    return (
        f"{table(('measure', 'value'), rows)}\n\nAgreement is no accuracy: it says how well the "
        "student copies its teachers on made-up samples, and nothing of how right they are. "
        "Measure it on images of your own before you rely on it."
    )


_PREFIX = "agreement_"


def _limits() -> str:
    return "\n".join(
        f"- {line}"
        for line in (
            "Never measured on a real image: there was none. Validate on your own before use.",
            "What its teachers get wrong it has most likely learnt from them.",
            "Research software, not a medical device: no clinical decision may rest on it alone.",
        )
    )


def _classifier() -> str:
    return (
        f"`model.onnx` takes uint8 images [N, {LENET_SIDE}, {LENET_SIDE}, C], and gives `label` "
        "[N], `confidence` [N] and `probabilities` [N, classes]; normalisation is inside."
    )
