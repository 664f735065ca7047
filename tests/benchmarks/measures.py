"""What a trained model is worth on validation tiles of one domain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from histill.distill.data import pad_to_stride
from histill.distill.latency import latency_ms
from histill.ml.metrics import hd95, score_image, summarize
from histill.ml.objects import split_objects
from histill.ml.panoptic import Panoptic, match_objects
from nuclei import CLASSES, tiles

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


class Model:
    """An exported model on one thread of ONNX Runtime."""

    def __init__(self, onnx: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(onnx, options, ["CPUExecutionProvider"])
        meta = self._session.get_modelmeta().custom_metadata_map
        self.stride = int(meta["histill.stride"])

    def mask(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Class map [H, W]."""
        height, width = image.shape[:2]
        batch = np.ascontiguousarray(pad_to_stride(image, self.stride)[None])
        [mask] = self._session.run(["mask"], {"image": batch})
        return np.asarray(mask[0, :height, :width], dtype=np.uint8)


def measure(onnx: Path, domain: str) -> dict[str, float]:
    """Dice, surface Dice at 2 px, panoptic quality, HD95, misses and speed on validation tiles.

    Dice and surface Dice are pooled over tiles, mean of inside and contour. Objects are
    split from the class map and matched with the labels' own. HD95 is that of the whole
    nuclei (inside and contour), mean over tiles; where nothing is found it is the
    tile's diagonal, and counted in ``missed``. ``ms`` is the time of the first tile on one
    thread of ONNX Runtime.
    """
    model, rows, objects, distances, missed = Model(onnx), [], Panoptic(), [], 0
    validation = tiles("val", (domain,))
    for tile in validation:
        mask, truth = model.mask(tile.pixels()), tile.classes()
        rows.append(score_image(mask, truth, classes=len(CLASSES)))
        objects += match_objects(split_objects(mask, classes=len(CLASSES)), tile.objects())
        distance = hd95(mask > 0, truth > 0)
        if not math.isnan(distance):
            distances.append(distance)
            missed += not (mask > 0).any()
    scores = summarize(rows)
    return {
        "dice": scores.dice,
        "nsd2": scores.nsd2,
        "pq": objects.pq,
        "hd95": float(np.mean(distances)),
        "missed": float(missed),
        "ms": latency_ms(onnx, validation[0].pixels(), stride=model.stride),
    }
