"""What the service needs of whatever runs a student."""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]

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

    def classes(self, images: Pixels) -> tuple[Pixels, Floats]:
        """The winning class of each pixel and its probability.

        Args:
            images: uint8 [N, H, W, C].

        Returns:
            uint8 [N, H, W] and float32 [N, H, W].
        """

    def probabilities(self, images: Pixels) -> Floats:
        """The probability of every class, float32 [N, classes, H, W]."""
