"""The serving benchmark's figure: where each server's milliseconds go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PANELS = {
    ("student", "p50_ms"): "student, p50 in ms",
    ("student", "cpu_ms_together"): "student, CPU ms a request, 8 at once",
    ("null", "p50_ms"): "null model, p50 in ms",
}
_OURS, _OTHERS = "#0072B2", "#999999"


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Writes a PNG: a bar for each server, shortest is best."""
    figure = Figure(figsize=(15, 3.6), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    for axes, ((group, key), title) in zip(
        figure.subplots(1, len(_PANELS)), _PANELS.items(), strict=True
    ):
        rows = report[group]
        colors = [_OURS if name.startswith("histill") else _OTHERS for name in rows]
        bars = axes.barh(list(rows), [row[key] for row in rows.values()], color=colors)
        axes.bar_label(bars, fmt="%.1f", padding=3)
        axes.set(title=title)
        axes.invert_yaxis()
        axes.margins(x=0.12)
    figure.savefig(path)
