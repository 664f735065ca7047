"""A second ONNX file that multiplies in 8-bit integers, where the student bears it.

What it costs is bounded: half a million parameters take a few seconds, and a larger network
as much longer as it takes for an image.
"""

from __future__ import annotations

import contextlib
import math
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import structlog
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from histill.core.manifests import INT8, INT8_LOSS, MOST_LOST, ONNX
from histill.distill.data import pad_to_stride

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from torch import Tensor

    Image = npt.NDArray[np.uint8]

log = structlog.get_logger()

_MOST_IMAGES = 32  # to calibrate on
_MOST_PIXELS = 1 << 21  # of them together
_SIDE = 512  # of the part that is taken of a larger one
_CONVOLUTIONS = ["Conv", "ConvTranspose"]
_ARITHMETIC = {"Add", "Sub", "Mul", "Div"}


class InOnnx(nn.Module):
    """An exported segmentation model as a network, on the CPU.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities, float32 [N, classes, H, W], of float [N, C, H, W] in units of a byte."""
        batch = images.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return torch.from_numpy(self._session.run(["probabilities"], {"image": batch})[0])


def add_int8(
    folder: Path, images: Sequence[Image], *, stride: int, lost: Callable[[nn.Module], float]
) -> dict[str, float]:
    """Writes ``model.int8.onnx`` beside ``model.onnx`` where it loses at most 0.3 points.

    Whatever goes wrong is logged, and leaves the folder as it was: the student is whole
    without.

    Args:
        folder: With ``model.onnx``.
        images: To take the ranges of activations from, uint8 [H, W, C]; some are taken.
        stride: Of the model.
        lost: Dice that a network like the student loses against it; NaN where nothing is known.

    Returns:
        The metric that says what is lost by the better of two ways to take ranges; empty when
        that is not known.
    """
    losses = []
    with TemporaryDirectory(prefix="histill-") as scratch:
        made = Path(scratch) / INT8
        try:
            for widest in (False, True):
                quantize(folder / ONNX, made, images, stride=stride, widest=widest)
                losses.append(lost(InOnnx(made)))
                if losses[-1] <= MOST_LOST:  # never of NaN
                    shutil.copyfile(made, folder / INT8)
                    break
        except Exception:
            # It may raise anything, of networks that its authors never saw.
            log.warning("int8_failed", exc_info=True)
            (folder / INT8).unlink(missing_ok=True)
            return {}
    loss = min((each for each in losses if math.isfinite(each)), default=math.nan)
    log.info("int8_made", lost=round(loss, 4), kept=loss <= MOST_LOST)
    return {INT8_LOSS: loss} if math.isfinite(loss) else {}


def quantize(
    path: Path, made: Path, images: Sequence[Image], *, stride: int, widest: bool = False
) -> None:
    """Writes a file with the inputs, outputs and metadata of another, in 8-bit integers.

    Weights are quantised a channel, inputs of convolutions a tensor, both symmetrically:
    OpenVINO takes four times as long where zero is not in the middle. What convolutions give
    stays in floats, since it is rounded anyway where the next one takes it, and so does all
    that is no convolution: pixels' normalisation, softmax and arg-max.

    Args:
        path: A ``model.onnx``.
        made: The file to write.
        images: As of ``add_int8``.
        stride: Of the model.
        widest: Whether ranges are the widest of all images, instead of the mean of each
            image's. Of photographs that is one bright spot's, and costs up to 0.008 Dice; of
            small generated images the mean cuts off too much.

    Raises:
        Exception: Of any kind; the network is not one that can be quantised.
    """
    with TemporaryDirectory(prefix="histill-") as scratch, contextlib.redirect_stdout(sys.stderr):
        # Standard output carries the trainer's events, and the quantiser may print.
        plain = Path(scratch) / "plain.onnx"
        quant_pre_process(path, plain, skip_symbolic_shape=True)
        quantize_static(
            plain,
            made,
            _Reader(_some(images, stride)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_CONVOLUTIONS,
            nodes_to_exclude=_in_floats(plain),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "OpTypesToExcludeOutputQuantization": _CONVOLUTIONS,
                "CalibMovingAverage": not widest,
            },
        )


def _in_floats(path: Path) -> list[str]:
    """Names of the convolutions of pixels, and of sums that no norm and no activation bounds.

    There 7 bits and a sign are too few: dark images fill a few steps of them, and so do
    residual networks; one such convolution loses up to 0.4 Dice. They cost little in floats.
    """
    nodes = onnx.load(path).graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    return [
        node.name
        for node in nodes
        if node.op_type in _CONVOLUTIONS and makers.get(node.input[0]) in _ARITHMETIC
    ]


def _some(images: Sequence[Image], stride: int) -> Iterator[Image]:
    """Some from all over them, as the service would run them: padded, or a part."""
    pixels = 0
    for index in np.random.default_rng(0).permutation(len(images))[:_MOST_IMAGES]:
        image = pad_to_stride(_middle(images[index]), stride)
        pixels += image.shape[0] * image.shape[1]
        yield image
        if pixels >= _MOST_PIXELS:
            return


def _middle(image: Image) -> Image:
    top, left = (max(0, side - _SIDE) // 2 for side in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Iterator[Image]) -> None:
        self._images = images

    def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next input, uint8 [1, H, W, C], or ``None``."""
        image = next(self._images, None)
        return None if image is None else {"image": np.array(image[None])}
