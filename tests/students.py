"""Hand-made students: small ONNX graphs with the inputs and outputs of exported ones."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fakes import MemoryVersions
from histill.core import catalog
from histill.core.manifests import (
    ONNX,
    ArtifactFile,
    ModelManifest,
    ModelRole,
    Normalization,
)
from histill.core.specs import NetworkSpec

if TYPE_CHECKING:
    from pathlib import Path

    from histill.core.ports import ObjectStore
    from histill.core.signing import Signer

CLASSES = ("background", "nuclei")
STRIDE = 8


def student(
    *,
    channels: int = 3,
    dark_is: int = 1,
    classes: int = 2,
    threshold: float = 128.0,
    ballast: int = 0,
) -> bytes:
    """A graph that smooths over 5 x 5 pixels and gives dark ones the class ``dark_is``.

    Light pixels get class 0 when ``dark_is`` is not 0, else class 1; further classes
    get a probability near 0. The sides must be multiples of 8, as of a real network:
    a branch that goes down and up again, and adds nothing, makes it fail otherwise.
    The file gets ``ballast`` bytes that mean nothing.
    """
    light_is = 0 if dark_is else 1
    slope = np.zeros((classes, channels, 1, 1), np.float32)
    bias = np.full(classes, -20, np.float32)
    slope[dark_is], bias[dark_is] = -0.1 / channels, threshold / 10
    slope[light_is], bias[light_is] = 0.1 / channels, -threshold / 10
    nodes = [
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node(
            "AveragePool", ["pixels"], ["smooth"], kernel_shape=[5, 5], pads=[2, 2, 2, 2]
        ),
        helper.make_node("Conv", ["smooth", "slope", "bias"], ["logits"]),
        helper.make_node(
            "MaxPool", ["logits"], ["down"], kernel_shape=[STRIDE] * 2, strides=[STRIDE] * 2
        ),
        helper.make_node("Resize", ["down", "", "scales"], ["up"], mode="nearest"),
        helper.make_node("Mul", ["up", "zero"], ["nothing"]),
        helper.make_node("Add", ["logits", "nothing"], ["sum"]),
        helper.make_node("Softmax", ["sum"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["winner"], axis=1, keepdims=0),
        helper.make_node("Cast", ["winner"], ["mask"], to=TensorProto.UINT8),
        helper.make_node("ReduceMax", ["probabilities"], ["confidence"], axes=[1], keepdims=0),
    ]
    weights = {
        "slope": slope,
        "bias": bias,
        "scales": np.array([1, 1, STRIDE, STRIDE], np.float32),
        "zero": np.zeros(1, np.float32),
    }
    sides = ["n", "h", "w"]
    graph = helper.make_graph(
        nodes,
        "student",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [*sides, channels])],
        [
            helper.make_tensor_value_info("mask", TensorProto.UINT8, sides),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, sides),
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["n", classes, "h", "w"]
            ),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, {"histill.stride": str(STRIDE), "ballast": "." * ballast})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def manifest(
    data: bytes,
    *,
    name: str = "nuclei",
    version: int = 1,
    channels: int = 3,
    classes: tuple[str, ...] = CLASSES,
) -> ModelManifest:
    """The manifest of a student whose file holds ``data``."""
    digest = hashlib.sha256(data).hexdigest()
    return ModelManifest(
        name=name,
        version=version,
        role=ModelRole.STUDENT,
        network=NetworkSpec(),
        channels=channels,
        classes=classes,
        normalization=Normalization(mean=(0.5,) * channels, std=(0.5,) * channels),
        parameters=10,
        create_time=datetime.now(UTC),
        files=(ArtifactFile(path=ONNX, size=len(data), sha256=digest),),
    )


def publish(
    store: ObjectStore,
    data: bytes,
    folder: Path,
    *,
    like: ModelManifest | None = None,
    signer: Signer | None = None,
) -> ModelManifest:
    """Stores a student as a new version, by way of a file in ``folder``."""
    path = folder / ONNX
    path.write_bytes(data)
    made = like or manifest(data)
    made = made.model_copy(update={"files": (catalog.file_of(path),)})
    return catalog.publish(store, MemoryVersions(), catalog.MODELS, made, [path], signer=signer)
