"""A short run of the loop that ``make chaos`` runs for as long as one likes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chaos.faults import every_fault
from chaos.loop import run

if TYPE_CHECKING:
    from pathlib import Path

_KINDS = 6


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    """One of each of the first kinds of faults: one result a job, all students equal."""
    (tmp_path / "system").mkdir()
    story = run(tmp_path, seed=1, rounds=1, kinds=_KINDS)
    assert story.complaints == []
    assert (story.losses, story.doubles, story.orphans) == (0, 0, 0)
    assert sum(story.faults.values()) == _KINDS
    assert story.states == {"SUCCEEDED": _KINDS + 1}
    assert max(seconds for seconds, _ in story.recoveries) < 60


def test_every_kind_of_fault_has_a_name_of_its_own(tmp_path: Path) -> None:
    """The counts that are printed are by name."""
    names = [fault.name for fault in every_fault(tmp_path)]
    assert len(set(names)) == len(names)
