"""The report's charts with the words that go with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from histill.distill import figures, wording
from histill.distill.figures import svg
from histill.distill.page import boxes, paragraph, picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from histill.distill.calibration import Calibration
    from histill.distill.history import History

_PAIRS = 5  # named confusions


def drawn(figure: Figure, alt: str, caption: str = "") -> str:
    """A chart as a figure of the page; ``alt`` tells what it shows."""
    return picture(svg(figure), kind="image/svg+xml", alt=alt, caption=caption)


def training(history: History) -> str:
    """Losses and validation Dice over the steps."""
    terms = ", ".join(
        f"{name} from {values[0]:.3g} to {values[-1]:.3g}"
        for name, values in history.terms.items()
        if values
    )
    charts = [
        drawn(
            figures.losses(history),
            f"Line chart of the loss over the steps: {terms}.",
            "Terms of the loss; thick lines are running means.",
        )
    ]
    if history.validation:
        points = ", ".join(f"{dice:.3f} at step {step}" for step, dice in history.validation)
        charts.append(
            drawn(
                figures.validation(history),
                f"Line chart of the Dice on validation images: {points}.",
                "Mean Dice over foreground classes on the validation images.",
            )
        )
    return boxes(charts, "grid")


def mean_weights(history: History, teachers: int) -> list[float]:
    """Mean weight of each teacher over the run; NaN where none was recorded."""
    weights = np.array(history.teacher_weights, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != teachers:  # noqa: PLR2004 - points by teachers
        return [float("nan")] * teachers
    return [float(mean) for mean in weights.mean(axis=0)]


def teacher_weights(history: History, references: Sequence[str]) -> str:
    """Weight of each teacher over the steps; nothing when none was recorded."""
    means = mean_weights(history, len(references))
    if np.isnan(means).any():
        return ""
    words = ", ".join(
        f"{name} {mean:.2f} on average" for name, mean in zip(references, means, strict=True)
    )
    chart = drawn(
        figures.teacher_weights(history, references),
        f"Line chart of the teachers' weights over the steps: {words}.",
        "Mean weight of each teacher over the batch; thick lines are running means.",
    )
    return boxes([chart], "broad")


def confusion(counts: npt.NDArray[np.int64], classes: Sequence[str]) -> str:
    """Where the pixels of each class went, and which classes are taken for each other most."""
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.where(sums > 0, counts / np.maximum(sums, 1), np.nan)
    kept = ", ".join(
        f"{name} {share:.1%}"
        for name, share in zip(classes, np.diag(shares), strict=True)
        if not np.isnan(share)
    )
    chart = drawn(
        figures.confusion(shares, classes),
        f"Confusion matrix, rows add up to 100 %. Pixels that got their own class: {kept}.",
        "Share of each reference class's pixels (row) by predicted class (column).",
    )
    wrong = counts * ~np.eye(len(classes), dtype=bool)
    most = [np.unravel_index(i, wrong.shape) for i in np.argsort(wrong, axis=None)[::-1][:_PAIRS]]
    words = "; ".join(
        f"{classes[row]} taken for {classes[column]}, {shares[row, column]:.2%} of its pixels"
        for row, column in most
        if wrong[row, column]
    )
    told = paragraph(f"Most frequent, by pixels: {words}.") if words else ""
    return boxes([chart], "half") + told


def calibration(found: Calibration | None) -> str:
    """How far confidences can be believed; nothing when it was not measured."""
    if found is None:
        return ""
    before, after = found.before.ece, found.after.ece
    verdict = wording.confidence(found.temperature)
    return paragraph(
        f"The expected calibration error over 15 bins is {before:.4f} as the model is, and "
        f"{after:.4f} with logits divided by {found.temperature:.3f}: it is {verdict}. The "
        "temperature was fitted on a sample of the same validation pixels. It is recorded "
        "with the model, whose served confidences are left as they are."
    ) + boxes(
        [
            drawn(
                figures.reliability(found),
                "Reliability diagram, accuracy over confidence. Expected calibration error "
                f"{before:.4f} before and {after:.4f} after temperature scaling.",
                "On the dotted line a confidence is just the chance to be right.",
            )
        ],
        "half",
    )
