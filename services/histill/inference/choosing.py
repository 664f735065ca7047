"""What runs a student here: whichever is fastest of those that say the same."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from histill.core.errors import CorruptArtifactError, HistillError
from histill.core.manifests import BFLOAT16_LOSS
from histill.inference.onnx_runtime import OnnxRuntime
from histill.inference.openvino_runtime import OpenVinoRuntime, has_bfloat16
from histill.inference.runtime import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from histill.core.manifests import ModelManifest
    from histill.inference.runtime import Precision, Runtime

log = structlog.get_logger()

_MOST_LOST = 0.003  # Dice that a student may lose by computing in fewer bits
# Of noise, where classes tie more often than on images; what fewer bits cost on those was
# measured by the trainer.
_SAME_PIXELS = {"f32": 0.999, "bf16": 0.9}
_SIDE = 256
_ROUNDS = 5
_MOST_S = 2.0  # of measuring, after the first round


@dataclass(frozen=True)
class Means:
    """What a student may be run with.

    Attributes:
        workers: Computations at a time.
        threads: Of one computation.
        device: ``auto``, ``cpu`` or ``cuda``.
        runtime: ``auto``, ``onnxruntime`` or ``openvino``.
        precision: ``auto`` takes fewer bits where the student was found to lose at most 0.3
            points of Dice by them; ``f32`` never.
    """

    workers: int
    threads: int
    device: str
    runtime: str
    precision: str


def load(manifest: ModelManifest, data: bytes, means: Means) -> Runtime:
    """The fastest runtime for a student, by measurement on noise; ``data`` is checked.

    Raises:
        CorruptArtifactError: No runtime takes the file; says why.
    """
    first = OnnxRuntime.load(
        data,
        reference=manifest.reference,
        channels=manifest.channels,
        threads=means.threads,
        device=means.device,
    )
    if means.runtime == "onnxruntime" or first.device != "cpu":
        return first
    side = -(-_SIDE // first.stride) * first.stride
    shape = (1, side, side, manifest.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    candidates: list[Runtime] = [first]
    try:
        for other in _others(manifest, data, first, means, images):
            candidates.append(other)  # noqa: PERF402 - what came before a failure stays
    except HistillError as exc:
        log.warning("runtime_failed", model=manifest.reference, why=str(exc))
    if means.runtime == "openvino":
        candidates = candidates[1:]
        if not candidates:
            raise CorruptArtifactError(f"{manifest.reference} does not run in OpenVINO")
    seconds = _measured(candidates, images)
    fastest = min(zip(seconds, candidates, strict=True), key=lambda pair: pair[0])[1]
    log.info(
        "runtime_chosen",
        model=manifest.reference,
        runtime=fastest.name,
        precision=fastest.precision,
        milliseconds={
            f"{each.name} {each.precision}": round(1000 * took, 2)
            for each, took in zip(candidates, seconds, strict=True)
        },
    )
    return fastest


def _others(
    manifest: ModelManifest, data: bytes, first: OnnxRuntime, means: Means, images: np.ndarray
) -> Iterator[Runtime]:
    """OpenVINO in each precision that the student may have and that answers alike."""
    said = first.run([MASK], images)[0]
    for precision in _precisions(manifest, means):
        made = OpenVinoRuntime.load(
            data,
            reference=manifest.reference,
            stride=first.stride,
            threads=means.threads,
            workers=means.workers,
            precision=precision,
        )
        same = float((made.run([MASK], images)[0] == said).mean())
        if same < _SAME_PIXELS[precision]:
            log.warning(
                "runtime_differs",
                model=manifest.reference,
                runtime=made.name,
                precision=precision,
                same=same,
            )
            return
        yield made


def _precisions(manifest: ModelManifest, means: Means) -> Sequence[Precision]:
    lost = manifest.metrics.get(BFLOAT16_LOSS)
    if means.precision == "f32" or lost is None or lost > _MOST_LOST or not has_bfloat16():
        return ("f32",)
    return ("f32", "bf16")


def _measured(candidates: Sequence[Runtime], images: np.ndarray) -> list[float]:
    """Seconds of each for one image: the least of some runs, taken by turns."""
    best = [float("inf")] * len(candidates)
    for runtime in candidates:
        runtime.run([MASK], images)
    began = time.monotonic()
    for _ in range(_ROUNDS):
        for index, runtime in enumerate(candidates):
            started = time.perf_counter()
            runtime.run([MASK], images)
            best[index] = min(best[index], time.perf_counter() - started)
        if time.monotonic() - began > _MOST_S:
            break
    return best
