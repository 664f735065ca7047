"""The training report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
import io
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from histill.distill.evaluate import Evaluation
    from histill.distill.examples import Example
    from histill.distill.loop import History
    from histill.distill.workdir import RunOrder, RunResult

_LIBRARIES = ("torch", "monai", "numpy", "scipy", "onnx", "onnxruntime", "histill")
# Hues of foreground classes, as red, green, blue in [0, 1].
_COLORS = np.array(
    [(0.9, 0.2, 0.2), (0.2, 0.5, 0.9), (0.95, 0.75, 0.1), (0.3, 0.75, 0.35), (0.7, 0.35, 0.8)]
)
_OPACITY = 0.45
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#222}table{border-collapse:collapse}td,th{padding:.2rem .8rem;border-bottom:1px solid
#ddd;text-align:left}img{max-width:100%}pre{background:#f5f5f5;padding:1rem;overflow:auto}
"""


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
    references = [teacher.reference for teacher in order.teachers]
    figures = [_picture("Losses and validation Dice", _curves(history))]
    if references:
        figures.append(_picture("Teacher weights", _weights(history, references)))
    figures.append(_picture("Best, median and worst", _overlays(evaluation, validation)))
    versions = {name: version(name) for name in _LIBRARIES}
    digests = {file.path: f"sha256 {file.sha256}" for file in order.dataset.files}
    circumstances = {
        "job": f"{order.job}, attempt {order.attempt}",
        "dataset": order.dataset.reference,
        "teachers": ", ".join(references) or "none",
        "seed": order.spec.training.seed,
        "parameters": f"{result.parameters:,}",
        **facts,
    }
    title = html.escape(order.spec.output_model)
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>",
        f"<style>{_STYLE}</style><h1>{title}</h1>",
        _table("Measures", {k: f"{v:.4f}" for k, v in result.metrics.items()}),
        *figures,
        _table("Circumstances", circumstances),
        f"<h2>Specification</h2><pre>{html.escape(order.spec.model_dump_json(indent=2))}</pre>",
        _table("Files of the dataset", digests),
        _table("Versions", {"python": platform.python_version(), **versions}),
        "</html>",
    ]
    return "\n".join(parts)


def _table(title: str, rows: Mapping[str, object]) -> str:
    cells = "".join(
        f"<tr><th>{html.escape(str(k))}</th><td>{html.escape(str(v))}</td></tr>"
        for k, v in rows.items()
    )
    return f"<h2>{html.escape(title)}</h2><table>{cells}</table>"


def _picture(title: str, figure: Figure) -> str:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    return (
        f"<h2>{html.escape(title)}</h2>"
        f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
    )


def _curves(history: History) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    losses, dice = figure.subplots(1, 2)
    for name, values in history.terms.items():
        losses.plot(history.steps, values, label=name, linewidth=1)
    losses.set(xlabel="step", ylabel="loss")
    losses.legend(frameon=False)
    if history.validation:
        dice.plot(*zip(*history.validation, strict=True), marker="o")
    dice.set(xlabel="step", ylabel="validation Dice")
    return figure


def _weights(history: History, references: Iterable[str]) -> Figure:
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    axes = figure.subplots()
    columns = zip(*history.teacher_weights, strict=True)
    for reference, column in zip(references, columns, strict=True):
        axes.plot(history.steps, column, label=reference, linewidth=1)
    axes.set(xlabel="step", ylabel="mean weight in the batch", ylim=(-0.02, 1.02))
    axes.legend(frameon=False)
    return figure


def _overlays(evaluation: Evaluation, validation: Sequence[Example]) -> Figure:
    # An image without any foreground has no Dice and is never shown as the best.
    known = np.flatnonzero(~np.isnan(evaluation.per_image))
    ranked = known[np.argsort(evaluation.per_image[known])]
    chosen = list(dict.fromkeys([*ranked[-1:], *ranked[len(ranked) // 2 :][:1], *ranked[:1]]))
    rows = max(1, len(chosen))
    figure = Figure(figsize=(9, 3 * rows), layout="constrained")
    grid = figure.subplots(rows, 3, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid, chosen, strict=False):
        example, mask = validation[index], evaluation.masks[index]
        target = example.target if example.target is not None else np.zeros_like(mask)
        dice = evaluation.per_image[index]
        axes[0].set_title(example.key, fontsize=9)
        axes[1].set_title(f"predicted, Dice {dice:.3f}", fontsize=9)
        axes[2].set_title("reference", fontsize=9)
        axes[0].imshow(_rgb(example.image))
        axes[1].imshow(overlay(example.image, mask))
        axes[2].imshow(overlay(example.image, target))
    return figure


def _rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]


def overlay(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """An image with its foreground classes tinted.

    Args:
        image: uint8 [H, W, C].
        mask: Class map [H, W].

    Returns:
        uint8 [H, W, 3].
    """
    tint = _COLORS[(mask.astype(np.intp) - 1) % len(_COLORS)] * 255
    mixed = _rgb(image) * (1 - _OPACITY) + tint * _OPACITY
    return np.where(mask[..., None] > 0, mixed, _rgb(image)).astype(np.uint8)
