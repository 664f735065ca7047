"""How measures are called and written, the same in cards and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

_MINUTE, _HOUR = 60, 3600
_KILO = 1000
_ABOUT = 0.03  # a temperature this near to 1 changes nothing that matters


class Measure(NamedTuple):
    """A measure in words.

    Attributes:
        name: What it is called.
        value: As text, with its unit.
        note: How to read it.
    """

    name: str
    value: str
    note: str


# Key, name, format, note.
_MEASURES = (
    ("dice", "Dice", "{:.4f}", "mean over foreground classes; 1 is perfect"),
    ("iou", "Intersection over union", "{:.4f}", "mean over foreground classes; 1 is perfect"),
    ("nsd2", "Surface Dice at 2 pixels", "{:.4f}", "mean over foreground classes; 1 is perfect"),
    (
        "hd95",
        "Hausdorff distance, 95 %",
        "{:.2f} px",
        (
            "mean over images and foreground classes; a class that is missed in an image, or "
            "found where there is none, counts as the image's diagonal"
        ),
    ),
    (
        "pq",
        "Panoptic quality",
        "{:.4f}",
        "of single objects, as far as the classes tell them apart; 1 is perfect",
    ),
    ("ece", "Expected calibration error", "{:.4f}", "of the confidences as served; 0 is perfect"),
    (
        "temperature",
        "Fitted temperature",
        "{:.3f}",
        (
            "logits divided by it are calibrated best; above 1 the model is too sure. It is "
            "recorded, not built into the model"
        ),
    ),
)


def measures(metrics: Mapping[str, float]) -> list[Measure]:
    """Those of a result's metrics that say how good a model is, in reading order."""
    return [
        Measure(name, form.format(metrics[key]), note)
        for key, name, form, note in _MEASURES
        if key in metrics
    ]


def ratio(value: float) -> str:
    """A measure in [0, 1]; a dash when there was nothing to measure."""
    return "–" if value != value else f"{value:.4f}"  # noqa: PLR0124, RUF001 - NaN; a dash is meant


def duration(seconds: float) -> str:
    """A time span, e.g. ``2 h 05 min`` or ``3 min 20 s``."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{seconds:.1f} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def size(number: float) -> str:
    """Bytes with a decimal unit, e.g. ``1.25 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if number < _KILO:
            return f"{number:.3g} {unit}"
        number /= _KILO
    return f"{number:.3g} GB"


def validation_role(*, patience: int, validations: int) -> str:
    """What validation images were used for besides measuring, in honest words."""
    if patience and validations:
        return (
            "The weights with the best Dice on these same validation images were kept, and "
            f"training could end early by it (patience {patience}): the measures are "
            "somewhat too good. Measure on images of your own before you rely on them."
        )
    return (
        "These validation images played no part in training or in choosing the weights: "
        "the last step counts. Whoever tries several settings and keeps the best by these "
        "measures chooses on them all the same."
    )


def confidence(temperature: float) -> str:
    """What a fitted temperature says about a model, in words."""
    if abs(temperature - 1) <= _ABOUT:
        return "about as sure as it may be"
    return "too sure of itself" if temperature > 1 else "less sure than it could be"
