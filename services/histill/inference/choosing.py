"""What runs a student here: whichever is fastest of those that say the same."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from histill.core.errors import CorruptArtifactError, HistillError
from histill.core.manifests import BFLOAT16_LOSS, INT8, INT8_LOSS, MOST_LOST, ONNX
from histill.inference.onnx_runtime import OnnxRuntime
from histill.inference.openvino_runtime import OpenVinoRuntime, has_bfloat16
from histill.inference.runtime import FILES, MASK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from histill.core.manifests import ModelManifest
    from histill.inference.runtime import Precision, Runtime

log = structlog.get_logger()

# Of noise, where classes tie more often than on images; what fewer bits cost on those was
# measured by the trainer. OpenVINO in each precision against ONNX Runtime on the same file. In
# 8-bit integers, which that one computes exactly, they share 0.998 where the CPU has
# instructions for such networks (VNNI, AMX); on others sums saturate, which costs a point of
# Dice that no trainer measured, and they share 0.93.
_SAME_PIXELS: Mapping[Precision, float] = {"f32": 0.999, "bf16": 0.9, "int8": 0.99}
# Of both files in ONNX Runtime: ranges were taken from images, and noise is beyond them. The
# least of six networks was 0.72; what is no copy of the student at all is found out.
_SAME_IN_INT8 = 0.5
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


def load(manifest: ModelManifest, read: Callable[[str], bytes], means: Means) -> Runtime:
    """The fastest runtime for a student, by measurement on noise.

    Args:
        manifest: Says what the student may be run in.
        read: The bytes of one of its files, checked.
        means: What there is to run it with.

    Raises:
        CorruptArtifactError: A file that would be used is damaged, or no runtime takes it; says
            why.
    """
    data = {ONNX: read(ONNX)}
    first = _in_onnx_runtime(manifest, data[ONNX], means, "f32")
    if means.runtime == "onnxruntime" or first.device != "cpu":
        return first
    found = {ONNX: first}
    precisions = _precisions(manifest, means)
    if "int8" in precisions:
        data[INT8] = read(INT8)
        found[INT8] = _in_onnx_runtime(manifest, data[INT8], means, "int8")
    side = -(-_SIDE // first.stride) * first.stride
    shape = (1, side, side, manifest.channels)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    candidates: list[Runtime] = [first]
    try:
        for other in _others(manifest, data, found, means, images, precisions):
            candidates.append(other)  # noqa: PERF402 - what came before a failure stays
    except HistillError as exc:
        log.warning("runtime_failed", model=manifest.reference, why=str(exc))
    if means.runtime == "openvino":
        candidates = [each for each in candidates if each.name == "openvino"]
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


def _in_onnx_runtime(
    manifest: ModelManifest, data: bytes, means: Means, precision: Precision
) -> OnnxRuntime:
    return OnnxRuntime.load(
        data,
        reference=manifest.reference,
        channels=manifest.channels,
        threads=means.threads,
        device=means.device,
        precision=precision,
    )


def _others(
    manifest: ModelManifest,
    data: Mapping[str, bytes],
    found: Mapping[str, OnnxRuntime],
    means: Means,
    images: np.ndarray,
    precisions: Sequence[Precision],
) -> Iterator[Runtime]:
    """What else runs one of the files in a precision the student may have, and answers alike."""
    said = {ONNX: found[ONNX].run([MASK], images)[0]}
    for precision in precisions:
        path = FILES[precision]
        if path not in said:
            said[path] = found[path].run([MASK], images)[0]
            if not _alike(manifest, found[path], said[path], said[ONNX], least=_SAME_IN_INT8):
                continue
            yield found[path]
        made = OpenVinoRuntime.load(
            data[path],
            reference=manifest.reference,
            stride=found[path].stride,
            threads=means.threads,
            workers=means.workers,
            precision=precision,
        )
        mask = made.run([MASK], images)[0]
        if _alike(manifest, made, mask, said[path], least=_SAME_PIXELS[precision]):
            yield made


def _alike(
    manifest: ModelManifest, made: Runtime, mask: np.ndarray, said: np.ndarray, *, least: float
) -> bool:
    same = float((mask == said).mean())
    if same >= least:
        return True
    log.warning(
        "runtime_differs",
        model=manifest.reference,
        runtime=made.name,
        precision=made.precision,
        same=same,
    )
    return False


def _precisions(manifest: ModelManifest, means: Means) -> Sequence[Precision]:
    """Those that the student bears, and for which there is a file and a CPU."""
    found: list[Precision] = ["f32"]
    if means.precision == "f32":
        return found
    if _bears(manifest, BFLOAT16_LOSS) and has_bfloat16():
        found.append("bf16")
    if _bears(manifest, INT8_LOSS) and any(file.path == INT8 for file in manifest.files):
        found.append("int8")
    return found


def _bears(manifest: ModelManifest, loss: str) -> bool:
    return manifest.metrics.get(loss, math.inf) <= MOST_LOST


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
