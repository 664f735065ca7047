"""Registered models, run on this machine: what they are shown is sent to nobody."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from histill.core.errors import (
    CorruptArtifactError,
    FailedPreconditionError,
    InvalidArgumentError,
    RuntimeFailedError,
)
from histill.core.manifests import ONNX

if TYPE_CHECKING:
    import numpy.typing as npt

    from histill.api.registry.v1 import model_pb2
    from histill.client import Client
    from histill.ml.images import Pixels

_INPUT, _OUTPUT = "image", "probabilities"
_SEGMENTATION_RANK, _CLASSIFICATION_RANK = 4, 2


@dataclass(frozen=True, eq=False)
class LocalModel:
    """A model in a session of ONNX Runtime.

    Attributes:
        reference: ``name@3``.
        session: Takes uint8 [N, H, W, C] and gives probabilities.
        pixelwise: It segments; otherwise it classifies whole images.
        channels: Of the images.
        classes: Names, in the order of the probabilities.
        stride: Sides of an image are multiples of it; the side itself, of one that classifies.
        guarantee: What its training guarantees, in a sentence.
    """

    reference: str
    session: Any
    pixelwise: bool
    channels: int
    classes: tuple[str, ...]
    stride: int
    guarantee: str

    def probabilities(self, image: Pixels) -> npt.NDArray[np.float32]:
        """What it says about one image.

        Args:
            image: uint8 [H, W, C] with sides that fit.

        Returns:
            float32 [classes, H, W], or [classes] of a model that classifies.

        Raises:
            RuntimeFailedError: The runtime gave up, or the answer is not finite.
        """
        try:
            [found] = self.session.run([_OUTPUT], {_INPUT: np.ascontiguousarray(image[None])})
        except Exception as exc:  # the runtime's errors have no base of their own
            raise RuntimeFailedError(f"{self.reference} in ONNX Runtime: {exc}") from exc
        if not np.isfinite(found).all():
            raise RuntimeFailedError(f"{self.reference} gives probabilities that are not finite")
        return np.asarray(found[0], dtype=np.float32)


def fetch(client: Client, reference: str, *, option: str) -> LocalModel:
    """Downloads a model's ``model.onnx`` and loads it; the file is removed again.

    Args:
        client: Of the system that has the model.
        reference: ``name``, ``name@3`` or ``name@alias``.
        option: Where the reference was given, for errors.

    Raises:
        FailedPreconditionError: ONNX Runtime is not installed here.
        NotFoundError: There is no such model.
        InvalidArgumentError: It has no ``model.onnx``.
        CorruptArtifactError: The file arrived damaged, or is no model of ours; says why.
    """
    try:
        import onnxruntime
    except ImportError as exc:
        raise FailedPreconditionError(
            "models are run on this machine, but onnxruntime is not installed here; "
            "pip install onnxruntime"
        ) from exc
    model = client.models.get(reference)
    if ONNX not in {file.path for file in model.files}:
        raise InvalidArgumentError.of(
            option,
            f"{model.reference} has no {ONNX} that could be run; name a student that a job made",
        )
    with tempfile.TemporaryDirectory(prefix="histill-audit-") as folder:
        client.models.download(model.reference, Path(folder), paths=[ONNX])
        data = (Path(folder) / ONNX).read_bytes()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return _described(session, model)
    except Exception as exc:  # the runtime's errors have no base of their own
        raise CorruptArtifactError(f"{model.reference}/{ONNX} cannot be run: {exc}") from exc


def _described(session: Any, model: model_pb2.Model) -> LocalModel:
    """The model as its file describes it.

    Raises:
        ValueError: Inputs, outputs or metadata are not what we write.
    """
    meta = session.get_modelmeta().custom_metadata_map
    inputs = {each.name: each for each in session.get_inputs()}
    outputs = {each.name: each for each in session.get_outputs()}
    if list(inputs) != [_INPUT] or inputs[_INPUT].type != "tensor(uint8)":
        raise ValueError(f"its only input must be {_INPUT}, of uint8")
    if _OUTPUT not in outputs:
        raise ValueError(f"it has no output {_OUTPUT}")
    rank = len(outputs[_OUTPUT].shape)
    pixelwise = meta.get("histill.task", "segmentation") != "classification"
    if rank != (_SEGMENTATION_RANK if pixelwise else _CLASSIFICATION_RANK):
        raise ValueError(f"its {_OUTPUT} have {rank} dimensions, which does not fit its task")
    classes = tuple(json.loads(meta["histill.classes"])) if "histill.classes" in meta else ()
    classes = classes or tuple(model.classes)
    given = outputs[_OUTPUT].shape[1]
    if isinstance(given, int) and given != len(classes):
        raise ValueError(f"it gives {given} probabilities and names {len(classes)} classes")
    stride = meta.get("histill.stride", "")
    if not stride.isdigit() or not int(stride):
        raise ValueError(f"its metadata histill.stride is {stride!r}, not a number above 0")
    channels = inputs[_INPUT].shape[3]
    return LocalModel(
        reference=model.reference,
        session=session,
        pixelwise=pixelwise,
        channels=channels if isinstance(channels, int) else model.channels,
        classes=classes,
        stride=int(stride),
        guarantee=_guarantee(model),
    )


def _guarantee(model: model_pb2.Model) -> str:
    if not model.dp_epsilon:
        return "No formal guarantee: nothing bounds what its training may tell of one image."
    return (
        f"Differential privacy with epsilon {model.dp_epsilon:g} and delta {model.dp_delta:g}, as "
        "the model's manifest says; an audit can contradict that, but never prove it."
    )
