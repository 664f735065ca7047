"""The worker's scratch folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.distill.scratch import scratch_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_killed_worker_left_is_swept_and_a_live_ones_is_not(tmp_path: Path) -> None:
    """A folder without a held lock belongs to nobody; images in it must not stay."""
    left = tmp_path / "histill-worker-dead"
    left.mkdir()
    (left / "lock").touch()
    (left / "patient.png").touch()
    with scratch_folder(str(tmp_path)) as first:
        assert not left.exists()
        (first / "work").mkdir()
        with scratch_folder(str(tmp_path)) as second:
            assert (first / "work").exists()
            assert second != first
    assert list(tmp_path.iterdir()) == []
