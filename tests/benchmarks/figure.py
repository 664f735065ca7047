"""The benchmark's figure: every arm's measures with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

_TITLES = {"dice": "Dice", "nsd2": "surface Dice at 2 px", "pq": "panoptic quality"}


def draw(report: dict[str, Any], path: Path) -> None:
    """Writes a PNG: one panel a measure, one row an arm, a dot and its 95 % interval."""
    arms = report["arms"]
    figure = Figure(figsize=(11, 0.5 + 0.34 * len(arms)), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(_TITLES), sharey=True)
    for axes, (measure, title) in zip(panels, _TITLES.items(), strict=True):
        for row, scores in enumerate(arms.values()):
            low, high = scores["mean"][f"{measure}_ci95"]
            axes.plot([low, high], [row, row], color="#0072B2", linewidth=2)
            axes.plot(scores["mean"][measure], row, "o", color="#0072B2")
        axes.set(title=title, yticks=range(len(arms)), yticklabels=list(arms))
        axes.invert_yaxis() if measure == "dice" else None
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path)
