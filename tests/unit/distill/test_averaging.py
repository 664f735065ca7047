"""The exponential average of weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from histill.distill.averaging import average_of


def test_what_does_not_change_is_its_own_average() -> None:
    """To the last bit, after any number of steps: a resumed run starts from the same."""
    net = nn.BatchNorm2d(3)
    assert net.running_mean is not None
    net.running_mean += torch.tensor([0.485, 0.28, 178.5])
    average = average_of(net, 0.999, buffers=True)
    for _ in range(500):
        average.update_parameters(net)
    for name, tensor in average.module.state_dict().items():
        assert torch.equal(tensor, net.state_dict()[name])


@pytest.mark.parametrize(("decay", "share"), [(0.9, 9 / 11), (0.1, 0.9)])
def test_the_first_weights_fade(decay: float, share: float) -> None:
    """After one step the decay is two elevenths at most."""
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    average = average_of(net, decay)
    average.update_parameters(net)
    nn.init.ones_(net.weight)
    average.update_parameters(net)
    kept = average.module.state_dict()["weight"]
    assert float(kept) == pytest.approx(share)
