"""The generators: what they make of noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from histill.distill.data_free.generator import Generator, Noise


def generator(*, seed: int = 0, **changes: Any) -> Generator:
    torch.manual_seed(seed)
    fields: dict[str, Any] = {"channels": 3, "side": 32, "width": 4, "noise": 5, "mean": (0.5,) * 3}
    return Generator(**(fields | {"spatial": True} | changes))


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize(("channels", "side"), [(1, 16), (3, 40)])
def test_samples_are_images_in_units_of_a_byte(channels: int, side: int, *, spatial: bool) -> None:
    """Of the size asked for, within [0, 255], and all different."""
    net = generator(channels=channels, side=side, mean=(0.5,) * channels, spatial=spatial)
    images = net(net.draw(6))
    assert images.shape == (6, channels, side, side)
    assert 0 <= images.min() < 100
    assert 150 < images.max() <= 255
    assert images.std(dim=0).mean() > 10


@pytest.mark.parametrize("spatial", [True, False])
def test_the_same_noise_gives_the_same_image(*, spatial: bool) -> None:
    """Bit for bit, also after other samples: nothing is remembered between batches."""
    net = generator(spatial=spatial)
    noise = net.draw(4)
    first = net(noise)
    assert not torch.equal(net(net.draw(4)), first)
    assert torch.equal(net(noise), first)
    assert torch.equal(net.eval()(noise), first)


@pytest.mark.parametrize("part", ["style", "field", "grain"])
def test_every_part_of_the_noise_counts(part: str) -> None:
    """Style, field and grain each change the image."""
    net = generator()
    noise, other = net.draw(4), net.draw(4)
    changed = net(replace(noise, **{part: getattr(other, part)}))
    assert (changed - net(noise)).abs().mean() > 0.1


@pytest.mark.parametrize("spatial", [True, False])
def test_samples_start_near_the_given_mean(*, spatial: bool) -> None:
    """Channel by channel; a mean at the end of the range is taken a little inside."""
    means = (0.2, 0.5, 0.8)
    net = generator(mean=means, spatial=spatial)
    found = net(net.draw(32)).mean(dim=(0, 2, 3)) / 255
    torch.testing.assert_close(found, torch.tensor(means), atol=0.07, rtol=0)
    black = generator(mean=(0.0, 1.0, 0.5), spatial=spatial)
    assert black(black.draw(4)).isfinite().all()


def shifted(noise: Noise, cells: int) -> Noise:
    """All fields, moved to the right by some cells; what leaves comes in on the left."""
    assert noise.field is not None
    grain = tuple(g.roll(cells * 2 ** (i + 1), dims=3) for i, g in enumerate(noise.grain))
    return replace(noise, field=noise.field.roll(cells, dims=3), grain=grain)


def test_noise_that_is_shifted_by_a_cell_shifts_the_image() -> None:
    """By 8 pixels exactly, but for the border: no place of a sample is special."""
    net = generator()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = "circular"  # so that there is no border
    noise = net.draw(4)
    expected = net(noise).roll(8, dims=3)
    torch.testing.assert_close(net(shifted(noise, 1)), expected, atol=0.05, rtol=0)
    assert (net(noise) - expected).abs().mean() > 5


def test_the_border_reaches_no_further_than_the_convolutions() -> None:
    """Inside of it a shifted sample is the same but for the statistics of its batch."""
    net = generator(side=64)
    noise = net.draw(8)
    before, after = net(noise), net(shifted(noise, 1))
    inside = (before[..., 24:40, 24:32] - after[..., 24:40, 32:40]).abs().mean()
    unmoved = (before[..., 24:40, 24:32] - after[..., 24:40, 24:32]).abs().mean()
    assert inside < 0.1 * unmoved


def test_a_field_acts_where_it_is() -> None:
    """Another vector in one cell leaves far pixels as they were, but for the statistics."""
    net = generator(side=64)
    noise = net.draw(8)
    assert noise.field is not None
    field = noise.field.clone()
    field[:, :, 1, 1] = 3
    apart = (net(noise) - net(replace(noise, field=field))).abs().mean(dim=(0, 1))
    assert apart[8:16, 8:16].mean() > 10 * apart[40:, 40:].mean()


def test_noise_comes_from_the_global_random_state() -> None:
    """A seed fixes it, for either kind; a classifier's has no field."""
    net, other = generator(), generator(spatial=False)
    torch.manual_seed(7)
    first = net.draw(2)
    torch.manual_seed(7)
    again = net.draw(2)
    assert torch.equal(first.style, again.style)
    assert all(map(torch.equal, first.grain, again.grain))
    assert [tuple(g.shape) for g in first.grain] == [(2, 1, s, s) for s in (8, 16, 32)]
    assert first.field is not None
    assert first.field.shape == (2, 5, 4, 4)
    assert other.draw(2).field is None
