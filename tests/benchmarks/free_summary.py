"""Scores of runs as the numbers and tables that are reported."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from rich.table import Table

from intervals import interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def arm_summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one arm's runs, one for each seed.

    ``mean`` with its 95 % interval ``ci`` and ``worst`` are of the student that was kept,
    which no test image chose; ``last`` of the last step, ``best`` of the best look on the
    test images, which nobody could know; ``spread`` is the standard deviation over seeds.
    ``simple_drop`` is what the simple half of the test images has lost at the end since its
    own best look.
    """
    kept = [run["kept"]["value"] for run in runs]
    last = [run["looks"][-1]["value"] for run in runs]
    best = [max(look["value"] for look in run["looks"]) for run in runs]
    drops = [
        max(look["simple"] for look in run["looks"]) - run["looks"][-1]["simple"] for run in runs
    ]
    nsd = [run["kept"]["nsd"] for run in runs]
    mean, low, high = interval(kept)
    return {
        "mean": mean,
        "ci": [low, high],
        "worst": min(kept),
        "last": statistics.fmean(last),
        "best": statistics.fmean(best),
        "late_collapse": max(top - end for top, end in zip(best, last, strict=True)),
        "spread": statistics.stdev(kept) if len(kept) > 1 else math.nan,
        "simple_drop": statistics.fmean(drops),
        "nsd": statistics.fmean(nsd),
        "seeds": kept,
        "alarms": sum(len(run["alarms"]) for run in runs),
        "seconds": statistics.fmean(run["seconds"] for run in runs),
    }


def task_summary(
    arms: Mapping[str, Sequence[dict[str, Any]]], teacher: dict[str, float]
) -> dict[str, Any]:
    """All arms of a task, and what they say together."""
    found = {name: arm_summary(runs) for name, runs in arms.items()}
    summary: dict[str, Any] = {"teacher": teacher, "arms": found}
    if {"both", "real_labels"} <= found.keys():
        both, real = found["both"], found["real_labels"]
        summary["retention"] = both["mean"] / real["mean"]
        summary["nsd_retention"] = both["nsd"] / real["nsd"]
        summary["simple_drop"] = {name: arm["simple_drop"] for name, arm in found.items()}
        summary["ahead"] = {
            name: list(interval([a - b for a, b in zip(both["seeds"], arm["seeds"], strict=False)]))
            for name, arm in found.items()
            if name != "both"
        }
    return summary


def table(name: str, task: Mapping[str, Any]) -> Table:
    """A task's arms."""
    teacher = task["teacher"]
    title = f"{name}: teacher {teacher['value']:.4f}"
    if not math.isnan(teacher["nsd"]):
        title += f" (surface Dice {teacher['nsd']:.4f})"
    made = Table(title=title)
    columns = ("arm", "mean ± 95 %", "worst", "last", "best", "simple drop", "NSD", "alarms", "s")
    for column in columns:
        made.add_column(column, justify="left" if column == "arm" else "right")
    for arm, scores in task["arms"].items():
        half = scores["ci"][1] - scores["mean"]
        made.add_row(
            arm,
            f"{scores['mean']:.4f}" + ("" if math.isnan(half) else f" ± {half:.4f}"),
            *(f"{scores[key]:.4f}" for key in ("worst", "last", "best", "simple_drop")),
            "" if math.isnan(scores["nsd"]) else f"{scores['nsd']:.4f}",
            str(scores["alarms"]),
            f"{scores['seconds']:.0f}",
        )
    return made
