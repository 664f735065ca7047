"""What is noted of a run for its report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from histill.distill import checkpoint_file
from histill.distill.data_free.curves import Curves, thumbnails
from histill.distill.data_free.guard import Alarm

if TYPE_CHECKING:
    from pathlib import Path


def test_what_a_check_does_not_have_is_nan() -> None:
    """A curve that begins later, or misses a check, is as long as all others."""
    curves = Curves()
    curves.add(10, {"loss": 1.0})
    curves.add(20, {"loss": 0.5, "hard_apart": 0.3})
    curves.add(30, {"hard_apart": 0.2})
    assert curves.steps == [10, 20, 30]
    assert curves.values["loss"][:2] == [1.0, 0.5]
    assert curves.values["hard_apart"][1:] == [0.3, 0.2]
    assert math.isnan(curves.values["loss"][2])
    assert math.isnan(curves.values["hard_apart"][0])
    assert {len(series) for series in curves.values.values()} == {3}


def test_thumbnails_are_small_and_on_the_cpu() -> None:
    """Bytes, halves and classes, for class maps as for single classes."""
    images = torch.tensor([0.4, 254.6])[:, None, None, None].expand(2, 3, 4, 4)
    logits = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    grid = thumbnails(7, "hard", images, logits, -logits)
    assert (grid.step, grid.kind) == (7, "hard")
    assert grid.images[:, 0, 0, 0].tolist() == [0, 255]
    assert (grid.images.dtype, grid.logits.dtype) == (torch.uint8, torch.float16)
    assert torch.equal(grid.answers, logits.argmin(dim=1).byte())
    single = thumbnails(7, "simple", images, logits[..., 0, 0], logits[..., 0, 0])
    assert single.answers.shape == (2,)


def test_curves_outlast_a_restart(tmp_path: Path) -> None:
    """With NaN, alarms and grids, by way of a file."""
    curves = Curves()
    curves.add(10, {"loss": 1.0})
    curves.add(20, {"spread": 3.0})
    curves.alarms.append((15, Alarm.COLLAPSED))
    images = torch.rand(2, 1, 4, 4) * 255
    curves.grids.append(thumbnails(20, "simple", images, torch.randn(2, 3), torch.randn(2, 3)))
    checkpoint_file.save(tmp_path / "c.safetensors", curves.state())
    back = Curves.restored(checkpoint_file.load(tmp_path / "c.safetensors"), Alarm)
    assert back.steps == curves.steps
    assert str(back.values) == str(curves.values)  # NaN is not equal to itself
    assert back.alarms == [(15, Alarm.COLLAPSED)]
    assert isinstance(back.alarms[0][1], Alarm)
    (one,), (other,) = back.grids, curves.grids
    assert (one.step, one.kind) == (20, "simple")
    for name in ("images", "logits", "answers"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    back.add(30, {"loss": 0.1, "new": 1.0})
    assert {len(series) for series in back.values.values()} == {3}
    assert len(curves.steps) == 2
