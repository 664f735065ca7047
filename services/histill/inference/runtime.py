"""What the service needs of whatever runs a student."""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

MASK, CONFIDENCE, PROBABILITIES = "mask", "confidence", "probabilities"
Precision = Literal["f32", "bf16"]


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
