"""How far a batch is from what a teacher saw, in networks and in TorchScript programs."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

import torchscripts
from histill.core.specs import NetworkSpec
from histill.distill.data_free.statistics import WatchedTeacher, layer_distance
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.programs import read_teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.core.manifests import ModelManifest

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def small_net() -> nn.Sequential:
    """Two batch norms, in eval mode."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 2, 3, padding=2), nn.BatchNorm2d(2)),
    )
    return net.eval().requires_grad_(False)


def taught(net: nn.Module, images: torch.Tensor) -> None:
    """Stores the statistics of one batch in all batch norms, exactly."""
    sizes: dict[nn.Module, int] = {}
    hooks = []
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            hooks.append(
                layer.register_forward_pre_hook(
                    lambda one, x: sizes.update({one: x[0].numel() // x[0].shape[1]})
                )
            )
    net.train()(images)
    net.eval()
    for hook in hooks:
        hook.remove()
    for layer, size in sizes.items():  # torch stores the unbiased variance
        layer.running_var *= (size - 1) / size  # type: ignore[operator, assignment]


def test_a_layers_distance_is_relative_to_the_stored_vectors() -> None:
    """Norm of the difference over norm of the stored, of means and variances, added."""
    x, mean, variance = noise(4, 3, 5, 6), noise(3, seed=1), noise(3, seed=2).abs()
    values = x.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1)
    expected = sum(
        np.linalg.norm(ours - stored) / np.linalg.norm(stored)
        for ours, stored in (
            (values.mean(axis=1), mean.numpy()),
            (values.var(axis=1), variance.numpy()),
        )
    )
    assert layer_distance(x, mean, variance).item() == pytest.approx(expected, rel=1e-4)


def test_the_distance_is_the_mean_over_layers() -> None:
    """Each layer's own input against each layer's own statistics."""
    net, x = small_net(), noise(4, 1, 8, 8)
    taught(net, noise(4, 1, 8, 8, seed=1))
    inner = net[3](net[:3](x))
    expected = [
        layer_distance(net[0](x), net[1].running_mean, net[1].running_var),  # type: ignore[arg-type]
        layer_distance(inner, net[4].running_mean, net[4].running_var),  # type: ignore[arg-type]
    ]
    _, distance = WatchedTeacher(net)(x)
    assert distance is not None
    assert distance.item() == pytest.approx(sum(map(float, expected)) / 2, rel=1e-5)


def test_a_batch_with_the_stored_statistics_has_no_distance() -> None:
    """In all layers at once; another batch has some, and its gradient leads back."""
    net, seen = small_net(), noise(8, 1, 8, 8)
    taught(net, seen)
    teacher = WatchedTeacher(net)
    _, distance = teacher(seen)
    assert distance is not None
    assert distance.item() == pytest.approx(0, abs=1e-5)
    other = (2 * seen + 1).requires_grad_()
    _, further = teacher(other)
    assert further is not None
    assert further.item() > 0.1
    (gradient,) = torch.autograd.grad(further, other)
    with torch.no_grad():
        nearer = other - 0.1 * gradient / gradient.abs().max()
    _, after = teacher(nearer)
    assert after is not None
    assert after < further


@pytest.mark.parametrize(
    ("fields", "layers"),
    [
        ({"architecture": "unet", "depth": 2}, 2),
        ({"architecture": "unet", "depth": 3}, 4),
        ({"architecture": "basic_unet", "depth": 2}, 6),
        ({"architecture": "attention_unet", "depth": 2}, 8),
        ({"architecture": "segresnet", "depth": 2}, 7),
        ({"architecture": "lenet5"}, 3),
        ({"architecture": "unet", "depth": 2, "norm": "instance"}, 0),
    ],
)
def test_batch_norms_of_the_registrys_networks_are_watched(
    fields: dict[str, object], layers: int
) -> None:
    """All of them and each once; other norms keep nothing that could be compared."""
    spec = NetworkSpec.model_validate({"width": 6} | fields)
    net = build_network(spec, channels=1, classes=2).eval()
    teacher = WatchedTeacher(net)
    assert teacher.layers == layers
    teacher(noise(2, 1, 32, 32))
    assert len(teacher._seen) == layers


def test_without_gradients_there_is_no_distance() -> None:
    """Nobody asks for it then, and nothing is left over from the call before."""
    teacher, x = WatchedTeacher(small_net()), noise(2, 1, 8, 8)
    logits, distance = teacher(x)
    assert distance is not None
    with torch.no_grad():
        again, none = teacher(x)
    assert none is None
    torch.testing.assert_close(again, logits)


def test_a_network_without_statistics_has_no_distance() -> None:
    """Neither has one whose batch norms keep none."""
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))
    teacher = WatchedTeacher(net)
    assert teacher.layers == 0
    assert teacher(noise(2, 1, 8, 8))[1] is None


@pytest.mark.parametrize("behind", [False, True])
def test_recorded_statistics_stand_in_by_the_layers_name(
    model_manifest: Callable[..., ModelManifest], *, behind: bool
) -> None:
    """Under the name in the file, however deep the network lies in its wrapping."""
    net = build_network(NetworkSpec(width=4, depth=2, norm="instance"), channels=1, classes=2)
    stored = noise(4, seed=1), noise(4, seed=2).abs()
    wrapped: nn.Module = net.eval().requires_grad_(False)
    if behind:
        wrapped = Normalized(net, model_manifest().normalization)
    teacher = WatchedTeacher(wrapped, {"model.0.adn.N": stored, "model.0.adn": stored[:1] * 2})
    assert teacher.layers == 2
    seen: list[torch.Tensor] = []
    net.get_submodule("model.0.adn.N").register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    net.get_submodule("model.0.adn").register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    _, distance = teacher(noise(2, 1, 8, 8))
    assert distance is not None
    outer, inner = seen
    expected = layer_distance(outer, stored[0], stored[0]) + layer_distance(inner, *stored)
    assert distance.item() == pytest.approx(expected.item() / 2, rel=1e-5)


def test_batch_norms_keep_their_own_statistics() -> None:
    """What was recorded under the name of one counts for nothing."""
    net, x = small_net(), noise(4, 1, 8, 8)
    taught(net, noise(4, 1, 8, 8, seed=1))
    _, own = WatchedTeacher(net)(x)
    other = small_net()
    taught(other, noise(4, 1, 8, 8, seed=1))
    teacher = WatchedTeacher(other, {"1": (noise(3), noise(3).abs()), "nowhere": (x, x)})
    _, distance = teacher(x)
    assert teacher.layers == 2
    assert own is not None
    assert distance is not None
    torch.testing.assert_close(distance, own)


def saved(net: nn.Module, folder: Path, how: str) -> None:
    """Writes a program as its users do."""
    if how == "scripted":
        torchscripts.write(net, folder)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about Python in the networks
        traced = torch.jit.trace(net, noise(2, 1, 16, 16))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, folder / "model.ts")


@pytest.mark.parametrize("how", ["scripted", "traced"])
@pytest.mark.parametrize("architecture", ["unet", "attention_unet", "segresnet"])
def test_a_program_says_what_the_network_says_that_it_was_made_from(
    how: str, architecture: str, tmp_path: Path, model_manifest: Callable[..., ModelManifest]
) -> None:
    """The same logits, the same distance, and the same gradients of both."""
    spec = NetworkSpec.model_validate({"architecture": architecture, "width": 4, "depth": 2})
    torch.manual_seed(0)
    net = build_network(spec, channels=1, classes=2).requires_grad_(False)
    taught(net, noise(8, 1, 16, 16, seed=1))
    saved(net, tmp_path, how)
    manifest = model_manifest(network=None, multiple_of=2)
    program = WatchedTeacher(read_teacher(tmp_path, manifest, CPU))
    plain = WatchedTeacher(Normalized(net, manifest.normalization).eval())
    assert program.layers == plain.layers > 0
    images = (torch.rand(3, 1, 16, 24, generator=torch.Generator().manual_seed(0)) * 255,) * 2
    ours, theirs = (x.clone().requires_grad_() for x in images)
    for _ in range(3):  # programs are compiled anew in their first calls
        answers = program(ours), plain(theirs)
    (logits, distance), (expected, known) = answers
    assert distance is not None
    assert known is not None
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(distance, known, rtol=1e-4, atol=1e-5)
    for one, other in ((logits.square().mean(), expected.square().mean()), (distance, known)):
        (found,) = torch.autograd.grad(one, ours, retain_graph=True)
        (wanted,) = torch.autograd.grad(other, theirs, retain_graph=True)
        assert wanted.abs().max() > 0
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=float(wanted.abs().max()) * 1e-3)
    with torch.no_grad():
        assert program(ours)[1] is None


def test_a_program_without_batch_norms_has_no_distance(
    tmp_path: Path, model_manifest: Callable[..., ModelManifest]
) -> None:
    """It answers as before."""
    net = torchscripts.Plain()
    manifest = model_manifest(network=None)
    teacher = WatchedTeacher(read_teacher(torchscripts.write(net, tmp_path), manifest, CPU))
    assert teacher.layers == 0
    images = torch.rand(2, 1, 8, 8) * 255
    logits, distance = teacher(images)
    assert distance is None
    expected = Normalized(net, manifest.normalization)(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
