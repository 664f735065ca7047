"""Teachers that come as TorchScript programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import manifests
import torchscripts as programs
from histill.core.errors import WorkFailedError
from histill.core.manifests import Normalization
from histill.core.specs import NetworkSpec
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.probes import probe_sizes, sizes_to_try
from histill.distill.programs import load_teacher

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from histill.core.manifests import ModelManifest

    Model = Callable[..., ModelManifest]

CPU = torch.device("cpu")
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 1), dtype=np.uint8)


def test_a_program_predicts_as_the_network_it_was_made_from(
    tmp_path: Path, model_manifest: Model
) -> None:
    """Normalised by the manifest, at the image's own size, and with nothing to train."""
    net = programs.Plain().eval()
    manifest = model_manifest(network=None, multiple_of=8)
    teacher = load_teacher(programs.write(net, tmp_path), manifest, CPU)
    scaled = torch.from_numpy((IMAGE[..., 0] / 255 - 0.5) / 0.25).float()
    padded = torch.nn.functional.pad(scaled[None, None], (0, 2, 0, 4), mode="reflect")
    with torch.inference_mode():
        expected = net(padded)[0, :, :20, :30].numpy()
    np.testing.assert_allclose(teacher.logits(IMAGE), expected, rtol=1e-4, atol=1e-5)
    assert not any(p.requires_grad for p in teacher.net.parameters())


def test_sigmoid_outputs_become_logits_against_a_background_of_0(
    tmp_path: Path, model_manifest: Model
) -> None:
    """With one foreground class, softmax of [0, z] is the sigmoid of z."""
    net = programs.Plain(outputs=1).eval()
    manifest = model_manifest(network=None, activation="sigmoid")
    logits = load_teacher(programs.write(net, tmp_path), manifest, CPU).logits(IMAGE)
    assert logits.shape == (2, 20, 30)
    assert not logits[0].any()
    scaled = torch.from_numpy((IMAGE[..., 0] / 255 - 0.5) / 0.25).float()
    with torch.inference_mode():
        expected = net(scaled[None, None])[0].sigmoid().numpy()
    shown = torch.from_numpy(logits).softmax(dim=0)[1:].numpy()
    np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-5)


def test_registry_weights_may_have_sigmoid_outputs_too(
    tmp_path: Path, model_manifest: Model
) -> None:
    """The network then has one output fewer than there are classes."""
    manifest = model_manifest(activation="sigmoid")
    net = build_network(NetworkSpec(width=4, depth=2), channels=1, classes=1)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    logits = load_teacher(tmp_path, manifest, CPU).logits(IMAGE)
    assert logits.shape == (2, 20, 30)
    assert not logits[0].any()


@pytest.mark.parametrize("net", [programs.Listed(), programs.Named()])
def test_an_output_of_one_tensor_is_taken_out(
    net: nn.Module, tmp_path: Path, model_manifest: Model
) -> None:
    """A list or dict of one tensor is as good as the tensor."""
    manifest = model_manifest(network=None)
    teacher = load_teacher(programs.write(net, tmp_path), manifest, CPU)
    assert teacher.logits(IMAGE).shape == (2, 20, 30)


@pytest.mark.parametrize(
    ("net", "changes", "words", "hint"),
    [
        (programs.Supervised(), {}, "is a tuple of 2, not one tensor", "deep supervision"),
        (programs.Plain(channels=3), {}, "takes 3 channels; 1 are declared", "channels: 3"),
        (programs.Plain(outputs=5), {}, r"the output is \[1, 5, 48, 49\]", "as many classes"),
        (programs.Plain(outputs=1), {}, r"the output is \[1, 1, 48, 49\]", "activation: sigmoid"),
        (programs.Plain(), {"activation": "sigmoid"}, r"\[1, 1, 48, 49\]", "activation: softmax"),
        (programs.Half(), {}, r"\[1, 2, 48, 49\] is needed", "as large as the input"),
        (programs.Masks(), {}, "is int64, not floating-point logits", "without the arg-max"),
        (programs.Levelled(), {}, r"\[1, 2, 48, 49\] is needed", "set multiple_of: 8"),
        (programs.Crossed(), {}, "it stops on 48x49 pixels", "set multiple_of: 4"),
    ],
)
def test_a_program_of_another_kind_is_refused_with_what_to_do(
    net: nn.Module,
    changes: dict[str, Any],
    words: str,
    hint: str,
    tmp_path: Path,
    model_manifest: Model,
) -> None:
    """Every way not to fit is TEACHER_MISMATCH, names the teacher, and says what helps."""
    manifest = model_manifest(network=None, **changes)
    with pytest.raises(WorkFailedError, match=words) as caught:
        load_teacher(programs.write(net, tmp_path), manifest, CPU)
    assert caught.value.reason == "TEACHER_MISMATCH"
    assert str(caught.value).startswith("teacher teacher@1: ")
    assert hint in caught.value.hint


def test_a_program_may_classify(tmp_path: Path) -> None:
    """One row of logits an image, of the size that is declared, normalised by the manifest."""
    net = programs.Classifier(outputs=10, side=32).eval()
    manifest = manifests.classifier(network=None)
    teacher = load_teacher(programs.write(net, tmp_path), manifest, CPU)
    image = torch.rand(5, 1, 32, 32) * 255
    with torch.inference_mode():
        expected = net((image / 255 - 0.5) / 0.25)
        torch.testing.assert_close(teacher.net(image), expected, rtol=1e-4, atol=1e-5)


def test_a_classifier_is_tried_on_its_size_alone() -> None:
    """It need not take any other."""
    assert sizes_to_try(manifests.classifier()) == ((32, 32),)


@pytest.mark.parametrize(
    ("net", "changes", "words", "hint"),
    [
        (programs.Classifier(outputs=3), {}, r"\[1, 3\] for .*\[1, 10\] is needed", "as many"),
        (programs.Plain(outputs=10), {}, r"\[1, 10\] is needed to classify", "leave task out"),
        (
            programs.Classifier(channels=3, outputs=10),
            {},
            "takes 3 channels; 1 are declared",
            "channels: 3",
        ),
        (
            programs.Classifier(outputs=10, side=64),
            {},
            "it stops on 32x32 pixels",
            "It runs on images of 64x64 pixels: set image_size: 64.",
        ),
        (
            programs.Classifier(outputs=10, side=36),
            {"image_size": 300},
            "it stops on 300x300 pixels",
            "or correct image_size",
        ),
    ],
)
def test_a_classifier_of_another_kind_is_refused_with_what_to_do(
    net: nn.Module, changes: dict[str, Any], words: str, hint: str, tmp_path: Path
) -> None:
    """What is expected is said in numbers, and what helps."""
    manifest = manifests.classifier(network=None, **changes)
    with pytest.raises(WorkFailedError, match=words) as caught:
        load_teacher(programs.write(net, tmp_path), manifest, CPU)
    assert caught.value.reason == "TEACHER_MISMATCH"
    assert hint in caught.value.hint


def test_a_classifier_that_is_said_to_segment_is_told_so(
    tmp_path: Path, model_manifest: Model
) -> None:
    """The help names the task that was left out."""
    folder = programs.write(programs.Classifier(), tmp_path)
    with pytest.raises(WorkFailedError, match=r"the output is \[1, 2\]") as caught:
        load_teacher(folder, model_manifest(network=None), CPU)
    assert "set task: classification, with an image_size" in caught.value.hint


def test_lenet_weights_are_a_teacher(tmp_path: Path) -> None:
    """Registry weights of a classifier are loaded like those of any network."""
    manifest = manifests.classifier()
    assert manifest.network is not None
    net = build_network(manifest.network, channels=1, classes=10)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    teacher = load_teacher(tmp_path, manifest, CPU)
    assert teacher.net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_a_declared_multiple_is_kept_to(tmp_path: Path, model_manifest: Model) -> None:
    """A program that needs sides of a multiple of 8 runs on any image once that is said."""
    manifest = model_manifest(network=None, multiple_of=8)
    teacher = load_teacher(programs.write(programs.Levelled(), tmp_path), manifest, CPU)
    assert teacher.logits(IMAGE).shape == (2, 20, 30)


def test_what_is_no_program_is_refused(tmp_path: Path, model_manifest: Model) -> None:
    """A pickle of weights, and a file that is missing, are told apart from programs."""
    torch.save(programs.Plain().state_dict(), tmp_path / "model.ts")
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(WorkFailedError, match="cannot be read as a TorchScript") as caught:
            load_teacher(folder, model_manifest(network=None), CPU)
        assert caught.value.reason == "TEACHER_MISMATCH"


def test_differing_weights_are_named(tmp_path: Path, model_manifest: Model) -> None:
    """Of tensors that are missing, surplus or of another shape, the first few are named."""
    net = build_network(NetworkSpec(width=8, depth=2), channels=1, classes=2)
    weights = net.state_dict()
    first = next(iter(weights))
    weights["extra"] = weights.pop(first)
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(WorkFailedError, match=r"do not fit its network: .* and \d+ more"):
        load_teacher(tmp_path, model_manifest(), CPU)


def test_images_may_be_scaled_by_their_own_values() -> None:
    """image_range and image_zscore undo gain and offset; a constant image becomes 0."""
    image = torch.rand(2, 3, 8, 9) * 100 + 20
    flat = torch.full((1, 3, 4, 4), 7.0)
    for scaling in ("image_range", "image_zscore"):
        constants = Normalization(mean=(0.0,) * 3, std=(1.0,) * 3, scaling=scaling)
        net = Normalized(torch.nn.Identity(), constants)
        torch.testing.assert_close(net(image * 2 + 5), net(image), rtol=1e-4, atol=1e-4)
        assert not net(flat).any()
    ranged = Normalized(
        torch.nn.Identity(),
        Normalization(mean=(0.5,) * 3, std=(0.5,) * 3, scaling="image_range"),
    )(image)
    assert (ranged.amin(dim=(1, 2, 3)).tolist(), ranged.amax(dim=(1, 2, 3)).tolist()) == (
        [-1.0, -1.0],
        [1.0, 1.0],
    )
    torch.testing.assert_close(net(image).mean(dim=(2, 3)), torch.zeros(2, 3), atol=1e-5, rtol=0)
    spread = net(image).std(dim=(2, 3), correction=0)
    torch.testing.assert_close(spread, torch.ones(2, 3))


@pytest.mark.parametrize("stride", [1, 8, 32, 100])
def test_a_program_is_tried_on_two_sizes_that_it_must_take(stride: int) -> None:
    """Neither is square, they differ in both sides, and all are multiples of the stride."""
    (a, b), (c, d) = probe_sizes(stride)
    assert all(side % stride == 0 for side in (a, b, c, d))
    assert len({(a, b), (c, d)}) == 2
    assert a != b
    assert c != d
