"""What the service needs of whatever runs a student."""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from histill.core.errors import HistillError, ResourceExhaustedError, RuntimeFailedError
from histill.core.manifests import INT8, ONNX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

INPUT = "image"
MASK, CONFIDENCE, PROBABILITIES = "mask", "confidence", "probabilities"
Precision = Literal["f32", "bf16", "int8"]
# What is computed from which file.
FILES: Mapping[Precision, str] = {"f32": ONNX, "bf16": ONNX, "int8": INT8}


def failed(name: str, exc: Exception) -> HistillError:
    """What a runtime raises when a run fails: want of memory passes, the rest does not."""
    if isinstance(exc, MemoryError) or "alloc" in str(exc).lower():
        return ResourceExhaustedError("not enough memory to compute", retry_after_s=1.0)
    return RuntimeFailedError(f"{name} failed: {exc}")


class Runtime(Protocol):
    """A loaded student. Methods block, and may be called from several threads at a time."""

    @property
    def stride(self) -> int:
        """Sides of images must be multiples of it."""

    @property
    def device(self) -> str:
        """Where it runs: ``cpu`` or ``cuda``."""

    @property
    def name(self) -> str:
        """What computes: ``onnxruntime`` or ``openvino``."""

    @property
    def precision(self) -> Precision:
        """Of the computation; what goes in and comes out is the same for all."""

    def run(self, outputs: Sequence[str], images: Pixels) -> list[Any]:
        """One run of the network.

        Args:
            outputs: Names of what is wanted: ``MASK``, the winning class of each pixel,
                uint8 [N, H, W]; ``CONFIDENCE``, its probability, float32 [N, H, W];
                ``PROBABILITIES``, of every class, float32 [N, classes, H, W].
            images: uint8 [N, H, W, C].

        Returns:
            An array for each name, which nothing else holds.

        Raises:
            RuntimeFailedError: The computation failed.
            ResourceExhaustedError: There is no memory for it.
        """
