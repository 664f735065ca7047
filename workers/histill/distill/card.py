"""The model card: what a model is, where it comes from, what it is for and not for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.core.specs import MultiTeacherSpec

if TYPE_CHECKING:
    from histill.distill.workdir import RunOrder, RunResult

_MEASURES = {
    "dice": "Dice, mean over foreground classes",
    "iou": "Intersection over union, mean over foreground classes",
    "nsd2": "Surface Dice at 2 pixels, mean over foreground classes",
}
_LIMITS = """\
- Measured on the validation split of one dataset; other scanners, stains, organs or
  magnifications can be much worse. Validate on your own images before use.
- Research software, not a medical device: no clinical decision may rest on it alone.
- Confidences are softmax probabilities and are not calibrated.
- Validation images played no part in training or in choosing the weights: the last step
  counts.
"""


def model_card(order: RunOrder, result: RunResult, *, labeled: int, unlabeled: int) -> str:
    """The card in Markdown.

    Args:
        order: What was asked for.
        result: What came out.
        labeled: Training images whose labels were used.
        unlabeled: Training images used without labels.
    """
    spec, dataset = order.spec, order.dataset
    network = spec.network
    how = "trained from labels"
    if isinstance(spec, MultiTeacherSpec):
        names = ", ".join(teacher.reference for teacher in order.teachers)
        how = f"distilled from {names}"
    rows = "\n".join(
        f"| {text} | {result.metrics[name]:.4f} |"
        for name, text in _MEASURES.items()
        if name in result.metrics
    )
    return f"""\
# {spec.output_model}

A {network.architecture} of width {network.width} and depth {network.depth} with
{result.parameters:,} parameters, {how}.

- Input: 8-bit images with {result.channels} channels.
- Output: one of {len(result.classes)} classes a pixel: {", ".join(result.classes)}.
- Data: {dataset.reference}, {labeled} training images with labels and {unlabeled} without.
- Made by {order.job}, seed {spec.training.seed}.

## Measures on {dataset.splits.get("val", 0)} validation images

| measure | value |
|---|---|
{rows}

## Intended use

Segmenting images like those of {dataset.reference}, as a help to people who check the
result.{f" About the data: {dataset.description}" if dataset.description else ""}

## Limits

{_LIMITS}"""
