"""The models that are served: a student, a larger one, and one that computes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper

from fakes import MemoryVersions
from histill.core import catalog
from histill.core.manifests import BFLOAT16_LOSS, INT8, INT8_LOSS, ONNX, Normalization
from histill.core.specs import NetworkSpec
from histill.distill.export import export_onnx
from histill.distill.nets import build_network, count_parameters
from histill.distill.predict import Normalized
from histill.distill.quantize import quantize
from serving_load import noise
from students import manifest

if TYPE_CHECKING:
    from histill.core.ports import ObjectStore

STUDENT, LARGE, NULL = "student", "large", "null"
CLASSES = ("background", "inside", "contour")
NETWORK = NetworkSpec(architecture="unet", width=28, depth=4)  # half a million parameters


def write_models(folder: Path) -> int:
    """Writes the student, of random weights, one 16 times as large, and the null model.

    Returns:
        The student's parameters.
    """
    _write(folder / f"{LARGE}.onnx", NETWORK.model_copy(update={"width": 4 * NETWORK.width}))
    (folder / f"{NULL}.onnx").write_bytes(_null())
    parameters = _write(folder / f"{STUDENT}.onnx", NETWORK)
    quantize(
        folder / f"{STUDENT}.onnx",
        folder / f"{STUDENT}.int8.onnx",
        [noise(256)],
        stride=NETWORK.stride,
    )
    return parameters


def _write(path: Path, network: NetworkSpec) -> int:
    torch.manual_seed(0)
    constants = Normalization(mean=(0.5,) * 3, std=(0.25,) * 3)
    net = Normalized(build_network(network, channels=3, classes=len(CLASSES)), constants).eval()
    export_onnx(net, path, channels=3, stride=network.stride, classes=CLASSES, samples=[])
    return count_parameters(net)


def as_student(store: ObjectStore, path: Path, *, name: str) -> None:
    """Puts a file into the registry, as one that loses nothing in fewer bits."""
    folder = path.parent / f"{name}-files"
    folder.mkdir(exist_ok=True)
    copies, lost = [Path(shutil.copy(path, folder / ONNX))], {BFLOAT16_LOSS: 0.0}
    eight = path.with_suffix(".int8.onnx")
    if eight.exists():
        copies.append(Path(shutil.copy(eight, folder / INT8)))
        lost[INT8_LOSS] = 0.0
    files = tuple(catalog.file_of(each) for each in copies)
    like = manifest(b"", name=name, classes=CLASSES)
    like = like.model_copy(update={"files": files, "metrics": lost})
    catalog.publish(store, MemoryVersions(), catalog.MODELS, like, copies)


def _null() -> bytes:
    """A graph that gives the first third of an image's bytes back as the mask: one copy."""
    nodes = [
        helper.make_node("Shape", ["image"], ["sides"]),
        helper.make_node("Gather", ["sides", "order"], ["thirds"]),
        helper.make_node("Reshape", ["image", "thirds"], ["parts"]),
        helper.make_node("Slice", ["parts", "from", "to", "axis"], ["first"]),
        helper.make_node("Squeeze", ["first", "axis"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["confidence"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["image"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["turned"], ["probabilities"], to=TensorProto.FLOAT),
    ]
    sides = ["n", "h", "w"]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "null",
        [value("image", TensorProto.UINT8, [*sides, 3])],
        [
            value("mask", TensorProto.UINT8, sides),
            value("confidence", TensorProto.FLOAT, sides),
            value("probabilities", TensorProto.FLOAT, ["n", 3, "h", "w"]),
        ],
        [
            numpy_helper.from_array(np.array(numbers, np.int64), name)
            for name, numbers in (
                ("order", [0, 3, 1, 2]),
                ("from", [0]),
                ("to", [1]),
                ("axis", [1]),
            )
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    helper.set_model_props(model, {"histill.stride": str(NETWORK.stride)})
    return bytes(model.SerializeToString())
