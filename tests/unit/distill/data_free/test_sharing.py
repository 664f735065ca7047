"""Shares: of classes in samples, and of G1 in the student's new ones."""

from __future__ import annotations

from typing import Any

import pytest

from histill.core.specs import SampleSharing
from histill.distill.data_free.shares import share_bounds
from histill.distill.data_free.sharing import hard_share

CLASSES = ("background", "stroma", "nuclei")


def bounds(*args: Any) -> tuple[list[float], list[float]]:
    low, high = share_bounds(*args)
    return low.tolist(), high.tolist()


def test_a_class_may_have_its_usual_share_or_a_few_times_that() -> None:
    """The background takes what they leave."""
    low, high = bounds(CLASSES, {"stroma": 0.1, "nuclei": 0.05}, {})
    assert low == pytest.approx([1 - 4 * 0.15, 0.1, 0.05])
    assert high == pytest.approx([0.85, 0.4, 0.2])


def test_what_is_asked_for_goes_before_what_was_recorded() -> None:
    """A recorded share of 0 says that it is not known."""
    asked = bounds(CLASSES, {"stroma": 0.1}, {"stroma": 0.3, "nuclei": 0.05})
    assert asked == bounds(CLASSES, {"stroma": 0.1, "nuclei": 0.05}, {})
    assert bounds(CLASSES, {}, {"stroma": 0.2, "nuclei": 0.0}) == bounds(
        CLASSES, {"stroma": 0.2}, {}
    )


def test_where_nothing_is_known_classes_share_alike() -> None:
    """Three tenths together, or what the known ones leave."""
    low, _ = bounds(CLASSES, {}, {})
    assert low[1:] == pytest.approx([0.15, 0.15])
    low, _ = bounds(CLASSES, {"stroma": 0.9}, {})
    assert low[1:] == pytest.approx([0.9, 0.1])


@pytest.mark.parametrize(
    "shares", [{}, {"stroma": 0.94}, {"stroma": 0.6, "nuclei": 0.399}, {"nuclei": 1e-4}]
)
def test_bounds_can_be_kept(shares: dict[str, float]) -> None:
    """Every least share is above 0 and at most the largest, none of which is above 1."""
    low, high = bounds(CLASSES, shares, {})
    assert all(0 < least <= most <= 1 for least, most in zip(low, high, strict=True))
    assert sum(high) >= 1


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("forgetting", [0.0, 0.5])
def test_a_fixed_share_stays(progress: float, forgetting: float) -> None:
    """Whatever happens."""
    sharing = SampleSharing(rule="fixed", hard_share=0.4)
    assert hard_share(sharing, progress=progress, forgetting=forgetting) == 0.4


@pytest.mark.parametrize(("progress", "share"), [(0, 0), (0.25, 0.2), (0.5, 0.4), (1, 0.4)])
def test_a_rising_share_is_reached_at_half_of_the_run(progress: float, share: float) -> None:
    """From nothing, in a line; what is forgotten counts for nothing."""
    sharing = SampleSharing(rule="rising", hard_share=0.4)
    assert hard_share(sharing, progress=progress, forgetting=0.9) == pytest.approx(share)


@pytest.mark.parametrize(("forgetting", "share"), [(0, 0.4), (0.025, 0.2), (0.05, 0), (0.5, 0)])
def test_an_adaptive_share_falls_as_the_student_forgets(forgetting: float, share: float) -> None:
    """To nothing at five hundredths of lost agreement; progress counts for nothing."""
    sharing = SampleSharing(rule="adaptive", hard_share=0.4)
    assert hard_share(sharing, progress=0, forgetting=forgetting) == pytest.approx(share)
