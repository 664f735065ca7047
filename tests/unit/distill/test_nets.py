"""The closed registry of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from histill.core.specs import NetworkSpec
from histill.distill.nets import build_network, count_parameters
from large_images import changed

if TYPE_CHECKING:
    from typing import Any

ARCHITECTURES = ["unet", "basic_unet", "attention_unet", "segresnet"]


def spec(**fields: Any) -> NetworkSpec:
    """A small network's spec."""
    return NetworkSpec.model_validate({"width": 4, "depth": 3} | fields)


@pytest.mark.parametrize("depth", [2, 4])
@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_keeps_the_size_of_its_input(
    architecture: str, norm: str, depth: int
) -> None:
    """Sides that are multiples of the stride give logits of the same sides."""
    network = spec(architecture=architecture, norm=norm, depth=depth)
    net = build_network(network, channels=2, classes=3)
    image = torch.zeros(2, 2, 2 * network.stride, 3 * network.stride)
    assert net(image).shape == (2, 3, *image.shape[2:])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_instance_norm_leaves_no_batch_norm(architecture: str) -> None:
    """With norm "instance" no layer keeps statistics of a batch."""
    net = build_network(spec(architecture=architecture, norm="instance"), channels=1, classes=2)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_width_and_depth_add_parameters(architecture: str) -> None:
    """Wider and deeper networks of each family are larger."""
    small, wide, deep = (
        count_parameters(build_network(spec(architecture=architecture, **f), channels=1, classes=2))
        for f in ({}, {"width": 8}, {"depth": 4})
    )
    assert small < wide
    assert small < deep


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_narrowest_networks_can_be_built(architecture: str) -> None:
    """Three channels are enough for every family."""
    net = build_network(spec(architecture=architecture, width=3), channels=1, classes=2)
    assert net(torch.zeros(2, 1, 16, 16)).shape == (2, 2, 16, 16)


@pytest.mark.parametrize(
    ("width", "shapes", "parameters"),
    [
        (6, [(6, 1), (16, 6), (120, 16)], 61_990),
        (3, [(3, 1), (8, 3), (60, 8)], 15_880),
    ],
)
def test_lenet_has_the_layers_of_its_paper(
    width: int, shapes: list[tuple[int, int]], parameters: int
) -> None:
    """Convolutions of 5 x 5, then 84 and ten outputs; at width 3 half of each."""
    net = build_network(spec(architecture="lenet5", width=width), channels=1, classes=10)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape) for m in convolutions] == [(*s, 5, 5) for s in shapes]
    assert [m.out_features for m in net.modules() if isinstance(m, nn.Linear)] == [14 * width, 10]
    # Those of the paper's fully connected form, and two a channel of each batch norm.
    assert count_parameters(net) == parameters


def test_lenet_gives_one_row_an_image() -> None:
    """Images of 32 x 32 pixels become logits [N, classes]; no other size is taken."""
    net = build_network(spec(architecture="lenet5", width=6), channels=3, classes=7)
    assert net(torch.zeros(4, 3, 32, 32)).shape == (4, 7)
    with pytest.raises(RuntimeError):
        net(torch.zeros(4, 3, 40, 40))


def test_equal_seeds_give_equal_weights() -> None:
    """Fresh weights come from torch's global generator alone."""
    nets = []
    for _ in range(2):
        torch.manual_seed(7)
        nets.append(build_network(spec(), channels=1, classes=2).state_dict())
    assert all(torch.equal(nets[0][k], nets[1][k]) for k in nets[0])


@pytest.mark.parametrize("architecture", ["unet", "basic_unet", "segresnet"])
def test_a_shifted_grid_of_tiles_changes_next_to_nothing(architecture: str) -> None:
    """The overlap of tiles is wider than these networks see, whatever their weights."""
    assert changed(architecture, "batch", side=1100) < 1e-3
