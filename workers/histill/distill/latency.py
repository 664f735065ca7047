"""How long an exported model takes for one image."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import onnxruntime

from histill.distill.data import pad_to_stride

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

_RUNS = 5


def latency_ms(path: Path, image: npt.NDArray[np.uint8], *, stride: int) -> float:
    """Median of five runs after a warm-up, on one thread of the CPU, in milliseconds.

    Args:
        path: The ONNX file.
        image: uint8 [H, W, C]; padded to multiples of the stride.
        stride: Of the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {"image": pad_to_stride(image, stride)[None]}
    first = [session.get_outputs()[0].name]
    session.run(first, feed)
    seconds = []
    for _ in range(_RUNS):
        started = time.perf_counter()
        session.run(first, feed)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000
