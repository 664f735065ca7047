"""Models for tests of the page: several classes by brightness, nothing trained."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from fakes import MemoryVersions
from histill.core import catalog
from histill.core.manifests import ONNX, ModelRole
from students import manifest, student

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.core.ports import ObjectStore

CLASSES = ("background", "DAB-stained", "nucleus")
STUDENT, TEACHER = "page-student", "page-teacher"
# The brightness below which a pixel is no background, and no DAB-stained one.
STUDENT_BANDS, TEACHER_BANDS = (90.0, 170.0), (80.0, 180.0)
# What makes the teacher the larger file, and the slower model.
_BALLAST = 1 << 20
_CHANNELS = 48


def banded(bands: tuple[float, float], *, ballast: int = 0, extra: int = 0) -> bytes:
    """A graph that smooths, and gives dark, middle and light pixels the classes 2, 1 and 0.

    It is sure in the middle of a band, and unsure near its ends.

    Args:
        bands: Mean of the channels below which a pixel is dark, and from which it is light.
        ballast: Bytes that mean nothing.
        extra: Channels of two convolutions that cost time and add nothing.
    """
    model = onnx.load_from_string(student(classes=3, ballast=ballast))
    dark, light = bands
    slopes = np.zeros((3, 3, 1, 1), np.float32)
    slopes[0], slopes[2] = 0.1 / 3, -0.1 / 3
    _set(model, "slope", slopes)
    _set(model, "bias", np.array([-0.1 * light, 0, 0.1 * dark], np.float32))
    if extra:
        _slow(model, extra)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _set(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    [tensor] = [each for each in model.graph.initializer if each.name == name]
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def _slow(model: onnx.ModelProto, channels: int) -> None:
    """Adds what two convolutions make of the image, times zero."""
    wide = np.full((channels, 3, 3, 3), 0.01, np.float32)
    back = np.full((3, channels, 3, 3), 0.01, np.float32)
    model.graph.initializer.append(numpy_helper.from_array(wide, "wide"))
    model.graph.initializer.append(numpy_helper.from_array(back, "back"))
    [add] = [each for each in model.graph.node if each.output[0] == "sum"]
    at = list(model.graph.node).index(add)
    add.input[0] = "slowed"
    make = onnx.helper.make_node
    for node in (
        make("Add", ["logits", "vanished"], ["slowed"]),
        make("Mul", ["narrowed", "zero"], ["vanished"]),
        make("Conv", ["widened", "back"], ["narrowed"], pads=[1, 1, 1, 1]),
        make("Conv", ["pixels", "wide"], ["widened"], pads=[1, 1, 1, 1]),
    ):
        model.graph.node.insert(at, node)


def publish_models(store: ObjectStore) -> None:
    """Puts two versions of a student and a larger teacher into the registry."""
    publish(store, banded(STUDENT_BANDS), name=STUDENT, parameters=10_000)
    publish(store, banded((95.0, 165.0)), name=STUDENT, parameters=10_000)
    slow = banded(TEACHER_BANDS, ballast=_BALLAST, extra=_CHANNELS)
    publish(store, slow, name=TEACHER, parameters=160_000, role=ModelRole.TEACHER)


def publish(
    store: ObjectStore,
    data: bytes,
    *,
    name: str,
    parameters: int,
    role: ModelRole = ModelRole.STUDENT,
    classes: Sequence[str] = CLASSES,
) -> None:
    """Puts a version into the registry, after those before it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ONNX
        path.write_bytes(data)
        like = manifest(data, name=name, classes=tuple(classes))
        like = like.model_copy(
            update={
                "files": (catalog.file_of(path),),
                "parameters": parameters,
                "role": role,
                "metrics": {"dice": 0.9},
            }
        )
        catalog.publish(store, MemoryVersions(), catalog.MODELS, like, [path])
