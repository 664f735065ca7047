"""Measures in words."""

from __future__ import annotations

import pytest

from histill.distill import wording


def test_sizes_and_spans_are_written_for_people() -> None:
    """Units grow with the number, and nothing to measure is a dash."""
    assert [wording.size(n) for n in (512, 48_000, 1.25e6, 3e9)] == [
        "512 bytes",
        "48 kB",
        "1.25 MB",
        "3 GB",
    ]
    assert [wording.duration(s) for s in (7.25, 200, 7500)] == ["7.2 s", "3 min 20 s", "2 h 05 min"]
    assert wording.ratio(float("nan")) == "–"  # noqa: RUF001 - a dash is meant


def test_only_what_was_measured_is_listed() -> None:
    """Measures come in reading order with their units; unknown keys are left out."""
    listed = wording.measures({"hd95": 3.25, "dice": 0.5, "dice:blob": 0.5})
    assert [(one.name, one.value) for one in listed] == [
        ("Dice", "0.5000"),
        ("Hausdorff distance, 95 %", "3.25 px"),
    ]


@pytest.mark.parametrize(
    ("temperature", "words"), [(1.9, "too sure"), (1.01, "about as sure"), (0.6, "less sure")]
)
def test_a_temperature_is_told_in_words(temperature: float, words: str) -> None:
    """Above 1 a model is too sure, below 1 not sure enough."""
    assert words in wording.confidence(temperature)


@pytest.mark.parametrize(("patience", "validations"), [(0, 3), (3, 0)])
def test_without_a_validation_nothing_is_chosen_by_it(patience: int, validations: int) -> None:
    """Patience without any validation chooses nothing."""
    role = wording.validation_role(patience=patience, validations=validations)
    assert "played no part" in role
