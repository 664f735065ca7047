"""What norms without memory saw of the training images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from histill.core.manifests import Normalization
from histill.core.specs import NetworkSpec
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.recorded import MOST_IMAGES, record_statistics

SIZES = [(16, 16), (13, 22)]


def network(**fields: object) -> Normalized:
    torch.manual_seed(0)
    spec = NetworkSpec.model_validate({"width": 4, "depth": 2} | fields)
    constants = Normalization(mean=(0.5,), std=(0.25,))
    return Normalized(build_network(spec, channels=1, classes=2), constants)


def images(count: int = 2) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    rng = np.random.default_rng(0)
    shapes = [(*SIZES[index % 2], 1) for index in range(count)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


@pytest.mark.parametrize("architecture", ["unet", "basic_unet", "attention_unet", "segresnet"])
def test_each_norm_is_recorded_by_its_name(architecture: str) -> None:
    """Two vectors a layer, as long as it has channels, for a file."""
    net = network(architecture=architecture, norm="instance")
    norms = {n: m for n, m in net.net.named_modules() if isinstance(m, nn.InstanceNorm2d)}
    found = record_statistics(net, images(), 2)
    assert set(found) == {f"{name}.{kind}" for name in norms for kind in ("mean", "var")}
    for name, layer in norms.items():
        for kind in ("mean", "var"):
            tensor = found[f"{name}.{kind}"]
            assert (tensor.dtype, tensor.shape) == (torch.float32, (layer.num_features,))
            assert bool(tensor.isfinite().all())


def test_the_values_are_those_of_a_direct_computation() -> None:
    """Over all pixels of all images together, padded by reflection, in eval mode."""
    net = network(architecture="basic_unet", norm="instance").train()
    found = record_statistics(net, images(), 2)
    assert not net.training
    seen = []
    for image in images():
        plane = image[..., 0].astype(np.float64)
        height, width = plane.shape
        padded = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="reflect")
        x = torch.from_numpy((padded / 255 - 0.5) / 0.25).float()[None, None]
        with torch.no_grad():
            out = net.net.first.conv_0.conv(x)  # type: ignore[operator, union-attr]
        seen.append(out[0].flatten(1).double())
    pixels = torch.cat(seen, dim=1)
    expected = {"mean": pixels.mean(dim=1), "var": pixels.var(dim=1, correction=0)}
    for kind, values in expected.items():
        got = found[f"first.conv_0.adn.N.{kind}"]
        torch.testing.assert_close(got, values.float(), rtol=1e-4, atol=1e-5)


def test_a_group_norm_is_recorded_too() -> None:
    """It keeps no statistics either."""
    layers = nn.Sequential(nn.Conv2d(1, 4, 1), nn.GroupNorm(2, 4))
    net = Normalized(layers, Normalization(mean=(0.0,), std=(1.0,)))
    assert set(record_statistics(net, images(), 1)) == {"1.mean", "1.var"}


def test_batch_norms_need_no_record() -> None:
    """They hold what would be recorded, so that no image is even looked at."""
    assert record_statistics(network(norm="batch"), images(), 2) == {}
    assert record_statistics(network(norm="instance"), [], 2) == {}


def test_a_few_dozen_images_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many images evenly spaced ones are taken, and no hook is left behind."""
    net = network(norm="instance")
    seen: list[int] = []
    forward = net.forward

    def counted(image: torch.Tensor) -> torch.Tensor:
        seen.append(len(image))
        return forward(image)

    monkeypatch.setattr(net, "forward", counted)
    record_statistics(net, images(2 * MOST_IMAGES + 1), 2)
    assert MOST_IMAGES / 2 < len(seen) <= MOST_IMAGES
    assert not any(module._forward_pre_hooks for module in net.modules())
