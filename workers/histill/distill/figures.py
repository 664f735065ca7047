"""Charts of the report, as SVG: sharp on paper and on any screen."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from histill.ml.colors import COLORS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from histill.distill.calibration import Calibration
    from histill.distill.history import History

# Those of the palette that can be told from white as thin lines.
_LINES = [
    (tuple(value / 255 for value in COLORS[index]), style)
    for style in ("-", "--")
    for index in (6, 7, 2, 4, 1, 3)
]
_SMOOTH = 15  # points of a running mean
_ANNOTATED = 12  # classes, at most, whose cells carry numbers
_DARK = 0.55
_LETTERS = 18
_COLUMNS = 3  # of a wide legend


def svg(figure: Figure) -> bytes:
    """A figure as a file."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure)
    with warnings.catch_warnings():
        # Class names may be in any script; a box stands for what the font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return buffer.getvalue()


def _chart(x: str, y: str, *, width: float = 5.2, height: float = 3.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(b=False)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    return figure, axes


def losses(history: History) -> Figure:
    """Each term over the steps, with its running mean."""
    figure, axes = _chart("step", "loss")
    for (name, values), (color, style) in zip(history.terms.items(), _LINES, strict=False):
        steps = history.steps[-len(values) :]
        axes.plot(steps, values, color=color, linewidth=0.7, alpha=0.25)
        axes.plot(steps, _smooth(values), style, color=color, linewidth=1.6, label=name)
    if history.terms:
        axes.legend(frameon=False, fontsize=9)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    return figure


def lines(
    x: Sequence[float], series: Mapping[str, Sequence[float]], *, label: str, x_label: str = "step"
) -> Figure:
    """Named curves over the same points; NaN leaves a gap.

    Args:
        x: Of each point.
        series: Values by name.
        label: Of the axis upwards.
        x_label: Of the axis to the right.
    """
    figure, axes = _chart(x_label, label)
    for (name, values), (color, style) in zip(series.items(), _LINES, strict=False):
        axes.plot(x, values, style, color=color, linewidth=1.6, label=name)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _smooth(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Running mean of up to 15 points, of fewer at both ends."""
    window = np.ones(min(_SMOOTH, len(values)))
    sums = np.convolve(values, window, "same")
    return np.asarray(sums / np.convolve(np.ones(len(values)), window, "same"))


def validation(history: History) -> Figure:
    """Mean Dice on the validation images over the steps, and which weights were kept."""
    figure, axes = _chart("step", "validation Dice")
    steps, values = zip(*history.validation, strict=True) if history.validation else ((), ())
    axes.plot(steps, values, marker="o", markersize=4, color=_LINES[0][0])
    kept = [(step, dice) for step, dice in history.validation if step == history.best_step]
    if kept:
        axes.plot(*kept[0], "*", markersize=15, color=_LINES[1][0], label="kept")
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    return figure


def teacher_weights(history: History, references: Sequence[str]) -> Figure:
    """Mean weight of each teacher over the batch, over the steps."""
    figure, axes = _chart("step", "mean weight in the batch", width=7.4)
    columns = np.array(history.teacher_weights).T
    for reference, column, (color, style) in zip(references, columns, _LINES, strict=False):
        axes.plot(history.steps, column, color=color, linewidth=0.7, alpha=0.25)
        axes.plot(
            history.steps, _smooth(column), style, color=color, linewidth=1.6, label=reference
        )
    axes.set_ylim(-0.02, 1.02)
    axes.legend(
        frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.18), ncols=_COLUMNS
    )
    return figure


def confusion(shares: npt.NDArray[np.float64], classes: Sequence[str]) -> Figure:
    """Where the pixels of each class went.

    Args:
        shares: float64 [classes, classes], rows add up to 1; NaN where a class is absent.
        classes: Names.
    """
    number = len(classes)
    side = min(8.0, 2.6 + 0.55 * number)
    figure = Figure(figsize=(side + 0.6, side))
    axes = figure.subplots()
    axes.set_facecolor("0.9")
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…" for name in classes]
    size = 9 if number <= _ANNOTATED else max(2, 110 / number)
    text: dict[str, Any] = {"fontsize": size, "parse_math": False}
    axes.set_xticks(range(number), names, rotation=45, ha="right", rotation_mode="anchor", **text)
    axes.set_yticks(range(number), names, **text)
    axes.set(xlabel="predicted", ylabel="reference")
    figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03).outline.set_visible(False)
    if number <= _ANNOTATED:
        for (row, column), share in np.ndenumerate(shares):
            label = "–" if np.isnan(share) else f"{share:.1%}"  # noqa: RUF001 - a dash is meant
            ink = "white" if share > _DARK else "black"
            axes.text(column, row, label, ha="center", va="center", color=ink, fontsize=8.5)
    return figure


def reliability(calibration: Calibration) -> Figure:
    """Accuracy over confidence, before and after the temperature, and how many pixels."""
    figure = Figure(figsize=(5.2, 5.2))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot((0, 1), (0, 1), color="0.6", linewidth=1, linestyle=":", label="perfect")
    curves = (
        ("as it is", calibration.before, "o", _LINES[1]),
        (f"temperature {calibration.temperature:.2f}", calibration.after, "s", _LINES[0]),
    )
    for name, curve, marker, (color, _) in curves:
        label = f"{name}, ECE {curve.ece:.4f}"
        style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.4}
        axes.plot(curve.confidence, curve.accuracy, label=label, **style)
        below.plot(curve.confidence, curve.share, **style)
    axes.set(ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    below.set(xlabel="confidence", ylabel="share of pixels", yscale="log")
    below.minorticks_off()
    for part in (axes, below):
        part.spines[["top", "right"]].set_visible(b=False)
        part.grid(color="0.92")
    return figure
