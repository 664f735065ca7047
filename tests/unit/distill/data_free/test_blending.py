"""Remembered samples blended pair by pair."""

from __future__ import annotations

import pytest
import torch

from histill.distill.data_free.blending import blended


def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of 100 + i and 200 + i, all over."""
    numbers = torch.arange(count).float()[:, None, None, None].expand(-1, 2, 12, 16)
    return numbers + 100, numbers + 200


def test_the_first_half_is_mixed_each_at_its_own_ratio() -> None:
    """A weighted mean of the two, the same for all pixels and channels."""
    torch.manual_seed(0)
    ones, others = pairs(40)
    ratios = ((others - blended(ones, others)) / 100)[:20]
    assert torch.allclose(ratios, ratios[:, :1, :1, :1].expand_as(ratios), atol=1e-5)
    assert ((ratios >= 0) & (ratios <= 1)).all()
    assert ratios.min() < 0.3
    assert ratios.max() > 0.7


def test_the_second_half_is_cut_each_at_its_own_rectangle() -> None:
    """Inside of it the first image, outside the second, in all channels alike."""
    torch.manual_seed(0)
    ones, others = pairs(40)
    cut = blended(ones, others)[20:]
    first, second = cut == ones[20:], cut == others[20:]
    assert (first ^ second).all()
    assert torch.equal(first[:, 0], first[:, 1])
    inside = first[:, 0]
    for mask in inside:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns[None])
        for axis in (rows, columns):  # one span, not several
            assert int(axis.int().diff().abs().sum() + axis[0].int() + axis[-1].int()) in {0, 2}
    assert len({tuple(mask.flatten().tolist()) for mask in inside}) > 10


@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_are_as_many_blends_as_pairs(count: int) -> None:
    """None of none, and one of a single pair."""
    ones, others = pairs(count)
    result = blended(ones, others)
    assert result.shape == ones.shape
    assert ((result >= ones) & (result <= others)).all()
