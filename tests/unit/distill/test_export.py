"""The exported model is the trained one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch

from histill.core.errors import WorkFailedError
from histill.core.manifests import Normalization
from histill.core.specs import NetworkSpec
from histill.distill.export import Servable, ServableClassifier, compare, export_onnx
from histill.distill.nets import build_network
from histill.distill.predict import Normalized

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = ("background", "gland", "nucleus")


def network(**fields: Any) -> tuple[Normalized, NetworkSpec]:
    """A fresh network of three input channels and three classes, with lived-in statistics."""
    spec = NetworkSpec.model_validate({"width": 4, "depth": 3} | fields)
    torch.manual_seed(0)
    net = Normalized(
        build_network(spec, channels=3, classes=3),
        Normalization(mean=(0.7, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
    )
    net(torch.rand(2, 3, 32, 32) * 255)
    return net, spec


@pytest.mark.parametrize("norm", ["batch", "instance"])
@pytest.mark.parametrize("architecture", ["unet", "basic_unet", "attention_unet", "segresnet"])
def test_onnx_runtime_gives_what_torch_gives_at_any_size(
    architecture: str, norm: str, tmp_path: Path
) -> None:
    """Batches and sides other than the traced ones give equal masks and probabilities."""
    net, spec = network(architecture=architecture, norm=norm)
    path = tmp_path / "model.onnx"
    export_onnx(net, path, channels=3, stride=spec.stride, classes=CLASSES, samples=[])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    for shape in ((1, 8, 40, 3), (3, 36, 12, 3)):
        image = rng.integers(0, 256, shape, dtype=np.uint8)
        mask, confidence, probabilities = session.run(None, {"image": image})
        with torch.inference_mode():
            expected = Servable(net)(torch.from_numpy(image))
        assert (mask.dtype, confidence.dtype) == (np.uint8, np.float32)
        assert np.mean(mask == expected[0].numpy()) >= 0.999
        np.testing.assert_allclose(confidence, expected[1].numpy(), atol=1e-4)
        np.testing.assert_allclose(probabilities, expected[2].numpy(), atol=1e-4)
        np.testing.assert_allclose(probabilities.max(axis=1), confidence)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    """Stride, classes and format are in the file's metadata; names are the contract's."""
    net, spec = network()
    path = tmp_path / "model.onnx"
    sample = np.zeros((13, 21, 3), dtype=np.uint8)
    export_onnx(net, path, channels=3, stride=spec.stride, classes=CLASSES, samples=[sample])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["histill.stride"] == "4"
    assert json.loads(meta["histill.classes"]) == list(CLASSES)
    assert (meta["histill.format"], meta["histill.task"]) == ("1", "segmentation")
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["n", "h", "w", 3])
    outputs = [(o.name, o.type) for o in session.get_outputs()]
    assert outputs == [
        ("mask", "tensor(uint8)"),
        ("confidence", "tensor(float)"),
        ("probabilities", "tensor(float)"),
    ]


def classifier() -> Normalized:
    """A LeNet-5 of three channels and classes, with lived-in statistics and sure of itself."""
    torch.manual_seed(0)
    spec = NetworkSpec(architecture="lenet5", width=3)
    net = Normalized(
        build_network(spec, channels=3, classes=3),
        Normalization(mean=(0.7, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
    )
    net(torch.rand(8, 3, 32, 32) * 255)
    return net


def export_classifier(net: Normalized, path: Path) -> Path:
    sample = np.full((32, 32, 3), 200, dtype=np.uint8)
    export_onnx(
        net, path, channels=3, stride=32, classes=CLASSES, samples=[sample], task="classification"
    )
    return path


def test_a_classifier_gives_one_label_an_image(tmp_path: Path) -> None:
    """Batches other than the traced one give what torch gives, under the contract's names."""
    net = classifier()
    path = export_classifier(net, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    assert (meta["histill.task"], meta["histill.stride"]) == ("classification", "32")
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["n", 32, 32, 3])
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("label", "tensor(uint8)", ["n"]),
        ("confidence", "tensor(float)", ["n"]),
        ("probabilities", "tensor(float)", ["n", 3]),
    ]
    batch = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    label, confidence, probabilities = session.run(None, {"image": batch})
    with torch.inference_mode():
        expected = ServableClassifier(net)(torch.from_numpy(batch))
    assert label.tolist() == expected[0].tolist()
    np.testing.assert_allclose(confidence, expected[1].numpy(), atol=1e-4)
    np.testing.assert_allclose(probabilities, expected[2].numpy(), atol=1e-4)


def test_a_differing_classifier_is_refused(tmp_path: Path) -> None:
    """Labels and probabilities are held against those of the network."""
    net = classifier()
    path = export_classifier(net, tmp_path / "model.onnx")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(-1.5)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with pytest.raises(WorkFailedError, match="of the images get the same class") as caught:
        compare(ServableClassifier(net).eval(), path, [image])
    assert caught.value.reason == "EXPORT_MISMATCH"


def test_a_differing_file_is_refused(tmp_path: Path) -> None:
    """If the file is of other weights than the network, the run fails."""
    net, spec = network()
    path = tmp_path / "model.onnx"
    export_onnx(net, path, channels=3, stride=spec.stride, classes=CLASSES, samples=[])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5)
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    with pytest.raises(WorkFailedError, match="differs from the trained one") as caught:
        compare(Servable(net).eval(), path, [image])
    assert caught.value.reason == "EXPORT_MISMATCH"
