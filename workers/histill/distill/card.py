"""The model card: what a model is, where it comes from, what it is for and not for.

Sections as in Mitchell et al., https://arxiv.org/abs/1810.03993, and on the Hugging Face hub.
"""

from __future__ import annotations

import math
import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from histill.core.manifests import INT8, INT8_LOSS, MOST_LOST, LabelKind
from histill.core.specs import MultiTeacherSpec
from histill.distill import wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from histill.core.specs import SupervisedSpec
    from histill.distill.evaluate import Evaluation
    from histill.distill.workdir import Order, RunOrder, RunResult

# What Markdown or HTML in it would read as more than text.
_SPECIAL = re.compile(r"([\\`*_\[\]>|#~$!])")
_LIBRARIES = ("histill", "torch", "monai", "onnx", "onnxruntime", "numpy")


def model_card(
    order: RunOrder, result: RunResult, *, evaluation: Evaluation, labeled: int, unlabeled: int
) -> str:
    """The card in Markdown.

    Args:
        order: What was asked for.
        result: What came out.
        evaluation: On the validation images.
        labeled: Training images whose labels were used.
        unlabeled: Training images used without labels.
    """
    sections = {
        "Model": _model(order, result),
        "Data": _data(order, labeled, unlabeled),
        "Training": _training(order.spec),
        "Teachers": teachers(order),
        "Measures": _measures(order, result, evaluation),
        "Calibration": _calibration(evaluation),
        "Intended use": _use(order),
        "Limits": _limits(order),
        "How to use": usage(order.spec.output_model, result.metrics),
        "Reproducibility": reproducibility(order, "all data and teachers"),
    }
    return document(order.spec.output_model, sections)


def document(title: str, sections: Mapping[str, str]) -> str:
    """A card of sections by name; empty ones are left out."""
    body = "\n".join(f"## {name}\n\n{text.strip()}\n" for name, text in sections.items() if text)
    return f"# {title}\n\n{body}"


def plain(text: str) -> str:
    """Foreign text on one line, so that Markdown and HTML in it show as they are written."""
    words = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(r"\\\1", words)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _model(order: RunOrder, result: RunResult) -> str:
    network, metrics = order.spec.network, result.metrics
    how = "trained from labels"
    if isinstance(order.spec, MultiTeacherSpec):
        how = f"distilled from {', '.join(teacher.reference for teacher in order.teachers)}"
    lines = [
        (
            f"A {network.architecture} of width {network.width} and depth {network.depth} with "
            f"{result.parameters:,} parameters, {how}.\n"
        ),
        f"- Input: 8-bit images with {result.channels} channels, of any size.",
        (
            f"- Output: one of {len(result.classes)} classes a pixel: "
            f"{', '.join(map(plain, result.classes))}."
        ),
    ]
    if "model_bytes" in metrics:
        lines.append(f"- Size: {wording.size(metrics['model_bytes'])} as ONNX.")
    if "latency_ms" in metrics:
        lines.append(
            f"- Speed: {metrics['latency_ms']:.1f} ms for a validation image, on one thread of "
            "the CPU it was trained beside."
        )
    return "\n".join(lines)


def _data(order: RunOrder, labeled: int, unlabeled: int) -> str:
    dataset = order.dataset
    pixel = f" Pixels are {dataset.pixel_size_mm:g} mm wide." if dataset.pixel_size_mm else ""
    numbered = dataset.label_kind is LabelKind.INSTANCE
    return (
        f"{dataset.reference}: {labeled} training images with labels and {unlabeled} without, "
        f"{dataset.splits.get('val', 0)} validation images. Labels "
        f"{'number single objects' if numbered else 'are class indices'}.{pixel}"
        f"\n\n{plain(dataset.description) or 'Its origin and licence were not recorded.'}"
    )


def _training(spec: SupervisedSpec | MultiTeacherSpec) -> str:
    training = spec.training
    augmented = ", with augmentation" if training.augment else ""
    schedule = (
        f"AdamW under a one-cycle schedule: up to {training.steps} steps of "
        f"{training.batch_size} crops of {training.crop_size} pixels, learning rate "
        f"{training.learning_rate:g}, weight decay {training.weight_decay:g}, in "
        f"{training.precision}{augmented}. Boundary weighting: {spec.boundary.mode}."
    )
    lines = [schedule]
    if training.ema_decay:
        lines.append(f"The weights are an exponential average of decay {training.ema_decay:g}.")
    if isinstance(spec, MultiTeacherSpec):
        weighting = spec.teacher_weighting
        lines.append(
            f"Loss: {spec.supervised_weight:g} x labels + {spec.distillation_weight:g} x "
            f"teachers at temperature {spec.temperature:g} + {spec.overlap_weight:g} x overlap "
            f"with them + {spec.edge_weight:g} x edges + {spec.affinity_weight:g} x "
            f"affinities. Teachers are weighted by grain "
            f"{weighting.grain}, on images without labels: {weighting.unlabeled}."
        )
    return "\n\n".join(lines)


def teachers(order: Order) -> str:
    """The teachers as a table, if there are any."""
    rows = []
    for teacher in order.teachers:
        network = teacher.network
        recorded = wording.ratio(teacher.metrics.get("dice", float("nan")))
        shape = f"{network.architecture}, width {network.width}" if network else "TorchScript"
        rows.append((teacher.reference, shape, teacher.dataset or "not recorded", recorded))
    return table(("teacher", "network", "trained on", "recorded Dice"), rows) if rows else ""


def _measures(order: RunOrder, result: RunResult, evaluation: Evaluation) -> str:
    training = order.spec.training
    whole = table(
        ("measure", "value", "how to read it"),
        (tuple(measure) for measure in wording.measures(result.metrics)),
    )
    classes = table(
        ("class", "Dice", "IoU", "surface Dice at 2 pixels"),
        (
            (plain(name), *map(wording.ratio, (scores.dice, scores.iou, scores.nsd2)))
            for name, scores in zip(result.classes[1:], evaluation.by_class, strict=True)
        ),
    )
    role = wording.validation_role(patience=training.patience, validations=training.validations)
    return f"On {len(evaluation.masks)} validation images.\n\n{whole}\n\n{classes}\n\n{role}"


def _calibration(evaluation: Evaluation) -> str:
    found = evaluation.calibration
    if not found:
        return ""
    return (
        f"Confidences are softmax probabilities. The model is "
        f"{wording.confidence(found.temperature)}: its expected calibration error is "
        f"{found.before.ece:.4f}, and would be {found.after.ece:.4f} with logits divided by "
        f"{found.temperature:.3f}, both on the same sample of validation pixels. The "
        "temperature is recorded, but not built into the served model."
    )


def _use(order: RunOrder) -> str:
    return (
        f"Segmenting images like those of {order.dataset.reference}, as a help to people who "
        "check the result."
    )


def _limits(order: RunOrder) -> str:
    lines = [
        (
            "Measured on the validation split of one dataset; other scanners, stains, organs or "
            "magnifications can be much worse. Validate on your own images before use."
        ),
        "Research software, not a medical device: no clinical decision may rest on it alone.",
        "Nothing was measured by groups of patients.",
    ]
    if order.teachers:
        lines.append("What its teachers get wrong it may have learnt from them.")
    return "\n".join(f"- {line}" for line in lines)


def usage(model: str, metrics: Mapping[str, float]) -> str:
    """How a segmentation model is called."""
    lost = metrics.get(INT8_LOSS, math.inf)
    bytes_too = (
        f" `{INT8}` is its copy in 8-bit integers, for CPUs; it was found to lose {lost:.4f} Dice."
        if lost <= MOST_LOST
        else ""
    )
    return f"""\
```sh
histill segment image.png --model {model} --overlay
```

`model.onnx` takes uint8 images [N, H, W, C] whose sides are multiples of its metadata's
`histill.stride`, and gives the mask, the winning probability and all probabilities;
normalisation is inside.{bytes_too}"""


def reproducibility(order: Order, sources: str) -> str:
    """How to make it again; ``sources`` says whose digests the report holds."""
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return (
        f"Made by {order.job}, attempt {order.attempt}, seed {order.spec.training.seed}, with "
        f"{versions}. The job's report holds the digests of {sources}. "
        "The specification:\n\n"
        f"```json\n{order.spec.model_dump_json(indent=2)}\n```"
    )
