"""Means with their intervals, and what JSON can hold of them."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t; NaN bounds from one value."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, float("nan"), float("nan")
    spread = statistics.stdev(values) / len(values) ** 0.5
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread
    return mean, mean - half, mean + half


def without_nan(value: Any) -> Any:
    """JSON has no NaN: bounds of one value become null."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
