"""Writes the network as ONNX with its pre- and post-processing inside, and checks it."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

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

FORMAT = "1"
OUTPUTS = ("mask", "confidence", "probabilities")
_OPSET = 17
_SAME_PIXELS = 0.999
_TOLERANCE = 1e-3


class Servable(nn.Module):
    """Bytes in, mask and probabilities out.

    Args:
        net: A ``Normalized`` network.
    """

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


def export_onnx(
    net: nn.Module,
    path: Path,
    *,
    channels: int,
    stride: int,
    classes: Sequence[str],
    samples: Sequence[npt.NDArray[np.uint8]],
) -> None:
    """Writes ``model.onnx`` and compares it with the network.

    Args:
        net: A ``Normalized`` network on the CPU; put into eval mode.
        path: The file to write.
        channels: Of the input.
        stride: Input sides must be multiples of it; stored as ``histill.stride``.
        classes: Names; stored as ``histill.classes``.
        samples: Real images, uint8 [H, W, C], to compare on besides random bytes.

    Raises:
        WorkFailedError: EXPORT_MISMATCH; ONNX Runtime and torch disagree.
    """
    model = Servable(net).eval()
    # Sides of two sizes that occur nowhere else, so that none is taken for constant.
    example = torch.zeros((2, 4 * stride, 6 * stride, channels), dtype=torch.uint8)
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
            output_names=list(OUTPUTS),
            dynamic_axes={
                "image": {0: "n", 1: "h", 2: "w"},
                "mask": {0: "n", 1: "h", 2: "w"},
                "confidence": {0: "n", 1: "h", 2: "w"},
                "probabilities": {0: "n", 2: "h", 3: "w"},
            },
        )
    proto = onnx.load(path)
    meta = {
        "histill.format": FORMAT,
        "histill.stride": str(stride),
        "histill.classes": json.dumps(list(classes)),
    }
    onnx.helper.set_model_props(proto, meta)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)
    noise = np.random.default_rng(0).integers(
        0, 256, (3 * stride, 5 * stride, channels), dtype=np.uint8
    )
    compare(model, path, [noise, *(pad_to_stride(sample, stride) for sample in samples)])


def compare(model: nn.Module, path: Path, images: Sequence[npt.NDArray[np.uint8]]) -> None:
    """Holds an ONNX file against a ``Servable``, image by image.

    Raises:
        WorkFailedError: EXPORT_MISMATCH; less than 99.9 % of the pixels get the same
            class, or a probability differs by more than 1e-3.
    """
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for image in images:
        batch = np.array(image[None])  # a copy: decoded images are read-only
        with torch.inference_mode():
            mask, _, probabilities = model(torch.from_numpy(batch))
        got_mask, _, got = session.run(list(OUTPUTS), {"image": batch})
        same = float(np.mean(got_mask == mask.numpy()))
        gap = float(np.abs(got - probabilities.numpy()).max())
        if not (same >= _SAME_PIXELS and gap <= _TOLERANCE):
            raise WorkFailedError(
                f"the exported model differs from the trained one: {same:.2%} of the pixels "
                f"get the same class, probabilities differ by up to {gap:.2g}",
                reason=EXPORT_MISMATCH,
                hint="Train once more, or choose another architecture; please report it.",
            )
