"""Writes the network as ONNX with its pre- and post-processing inside, and checks it."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from histill.core.errors import WorkFailedError
from histill.distill.data import pad_to_stride
from histill.distill.reasons import EXPORT_MISMATCH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor

    from histill.core.specs import Task

    Axes = dict[str, dict[int, str]]

FORMAT = "1"
_OPSET = 17
_SAME_PIXELS = 0.999
_TOLERANCE = 1e-3
_NOISES = 4  # images of random bytes on which a classifier is compared


class Servable(nn.Module):
    """Bytes in, mask and probabilities out.

    Args:
        net: A ``Normalized`` network.
    """

    outputs = ("mask", "confidence", "probabilities")
    thing = "pixels"
    axes: ClassVar[Axes] = {
        "image": {0: "n", 1: "h", 2: "w"},
        "mask": {0: "n", 1: "h", 2: "w"},
        "confidence": {0: "n", 1: "h", 2: "w"},
        "probabilities": {0: "n", 2: "h", 3: "w"},
    }

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Segments images whose sides are multiples of the stride.

        Args:
            image: uint8 [N, H, W, C].

        Returns:
            mask: uint8 [N, H, W]; confidence: the winning probability,
            float32 [N, H, W]; probabilities: float32 [N, classes, H, W].
        """
        probabilities = self.net(image.permute(0, 3, 1, 2).float()).softmax(dim=1)
        confidence, mask = probabilities.max(dim=1)
        return mask.to(torch.uint8), confidence, probabilities


class ServableClassifier(nn.Module):
    """Bytes in, one label an image and probabilities out.

    Args:
        net: A ``Normalized`` network.
    """

    outputs = ("label", "confidence", "probabilities")
    thing = "images"
    axes: ClassVar[Axes] = {name: {0: "n"} for name in ("image", *outputs)}

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classifies images of the side that the network takes.

        Args:
            image: uint8 [N, H, W, C].

        Returns:
            label: uint8 [N]; confidence: the winning probability, float32 [N];
            probabilities: float32 [N, classes].
        """
        probabilities = self.net(image.permute(0, 3, 1, 2).float()).softmax(dim=1)
        confidence, label = probabilities.max(dim=1)
        return label.to(torch.uint8), confidence, probabilities


def export_onnx(
    net: nn.Module,
    path: Path,
    *,
    channels: int,
    stride: int,
    classes: Sequence[str],
    samples: Sequence[npt.NDArray[np.uint8]],
    task: Task = "segmentation",
) -> None:
    """Writes ``model.onnx`` and compares it with the network.

    Args:
        net: A ``Normalized`` network on the CPU; put into eval mode.
        path: The file to write.
        channels: Of the input.
        stride: Input sides must be multiples of it, those of a classifier equal it; stored
            as ``histill.stride``.
        classes: Names; stored as ``histill.classes``.
        samples: Images, uint8 [H, W, C], to compare on besides random bytes; those of a
            classifier are of the side that it takes.
        task: Whether it gives a mask or a label; stored as ``histill.task``.

    Raises:
        WorkFailedError: EXPORT_MISMATCH; ONNX Runtime and torch disagree.
    """
    classifies = task == "classification"
    model = (ServableClassifier(net) if classifies else Servable(net)).eval()
    # Sides of two sizes that occur nowhere else, so that none is taken for constant.
    sides = (stride, stride) if classifies else (4 * stride, 6 * stride)
    example = torch.zeros((2, *sides, channels), dtype=torch.uint8)
    with warnings.catch_warnings():
        # The exporter that replaces this one takes forty times as long for the same graph.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        # Instance norm always uses its input's own statistics, and checks the shape in Python.
        warnings.filterwarnings("ignore", message=".*operator 'instance_norm'.*train=True")
        warnings.filterwarnings("ignore", category=TracerWarning, module=r"torch\.nn\.")
        torch.onnx.export(
            model,
            (example,),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=list(model.outputs),
            dynamic_axes=model.axes,
        )
    proto = onnx.load(path)
    meta = {
        "histill.format": FORMAT,
        "histill.task": task,
        "histill.stride": str(stride),
        "histill.classes": json.dumps(list(classes)),
    }
    onnx.helper.set_model_props(proto, meta)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    rng = np.random.default_rng(0)
    if classifies:
        noise = rng.integers(0, 256, (_NOISES, *sides, channels), dtype=np.uint8)
        compare(model, path, [*noise, *samples])
        return
    noise = rng.integers(0, 256, (3 * stride, 5 * stride, channels), dtype=np.uint8)
    compare(model, path, [noise, *(pad_to_stride(sample, stride) for sample in samples)])


def compare(
    model: Servable | ServableClassifier, path: Path, images: Sequence[npt.NDArray[np.uint8]]
) -> None:
    """Holds an ONNX file against what it was made from, image by image.

    Raises:
        WorkFailedError: EXPORT_MISMATCH; less than 99.9 % of an image's pixels, or the image,
            get the same class, or a probability differs by more than 1e-3.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for image in images:
        batch = np.array(image[None])  # a copy: decoded images are read-only
        with torch.inference_mode():
            found, _, probabilities = model(torch.from_numpy(batch))
            first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
        got_found, _, got = session.run(list(model.outputs), {"image": batch})
        # Where two classes are as good as equal, rounding decides between them.
        tied = (first - second <= _TOLERANCE).numpy()
        same = float(np.mean((got_found == found.numpy()) | tied))
        gap = float(np.abs(got - probabilities.numpy()).max())
        if not (same >= _SAME_PIXELS and gap <= _TOLERANCE):
            raise WorkFailedError(
                f"the exported model differs from the trained one: {same:.2%} of the "
                f"{model.thing} get the same class, probabilities differ by up to {gap:.2g}",
                reason=EXPORT_MISMATCH,
                hint="Train once more, or choose another architecture; please report it.",
            )
