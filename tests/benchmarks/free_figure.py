"""The benchmark's figure: each arm's scores, and how they came about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_CURVES = {"dfad": "#D55E00", "g1": "#E69F00", "g2": "#56B4E9", "both": "#0072B2"}


def draw(report: Mapping[str, Any], scores: Mapping[tuple[str, str, int], Any], path: Path) -> None:
    """Writes a PNG: for each task the arms with their intervals, and curves over the steps."""
    tasks = [name for name, part in report.items() if "arms" in part]
    rows = max(len(report[name]["arms"]) for name in tasks)
    figure = Figure(figsize=(5 * len(tasks), 4 + 0.28 * rows), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, len(tasks), squeeze=False, height_ratios=(0.28 * rows, 3.6))
    for column, name in enumerate(tasks):
        _arms(panels[0][column], name, report[name]["arms"])
        _curves(panels[1][column], name, scores)
    figure.savefig(path)


def _arms(axes: Any, name: str, arms: Mapping[str, Any]) -> None:
    for row, arm in enumerate(arms.values()):
        axes.plot(arm["ci"], [row, row], color="#0072B2", linewidth=2)
        axes.plot(arm["mean"], row, "o", color="#0072B2")
        axes.plot(arm["worst"], row, "|", color="#D55E00", markersize=10)
    axes.set(title=name, yticks=range(len(arms)), yticklabels=list(arms))
    least = min(arm["worst"] for key, arm in arms.items() if not key.startswith(("dfad", "dafl")))
    axes.set_xlim(least - 0.02, max(arm["mean"] for arm in arms.values()) + 0.01)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _curves(axes: Any, name: str, scores: Mapping[tuple[str, str, int], Any]) -> None:
    for arm, color in _CURVES.items():
        found = [
            run["looks"] for (task, which, _), run in scores.items() if (task, which) == (name, arm)
        ]
        if found:
            # A run that went back has some steps twice, or misses some.
            runs = [{look["step"]: look["value"] for look in looks} for looks in found]
            steps = sorted(set.intersection(*(set(run) for run in runs)))
            values = np.array([[run[step] for step in steps] for run in runs])
            axes.plot(steps, values.mean(axis=0), color=color, label=arm)
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=color, alpha=0.2)
    axes.set(xlabel="step of the student", ylabel="score on test images")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
