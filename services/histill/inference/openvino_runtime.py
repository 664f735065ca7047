"""Students in OpenVINO, on the CPU, in 32-bit floats, bfloat16 or 8-bit integers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino

from histill.core.errors import CorruptArtifactError
from histill.inference.runtime import FILES, INPUT, failed

# Its first tensor sets things up that two first computations at a time may wait for each other
# about, with Python's lock in hand.
openvino.Tensor(np.zeros(1, np.uint8))

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from histill.inference.runtime import Precision

    Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class OpenVinoRuntime:
    """A compiled model; implements ``Runtime``.

    Attributes:
        compiled: With as many streams as there are workers.
        stride: Sides of images must be multiples of it.
        precision: Of the computation.
    """

    compiled: Any
    stride: int
    precision: Precision
    device: str = "cpu"
    name: str = "openvino"
    # A request holds one computation's tensors, so each thread has its own.
    _requests: threading.local = field(default_factory=threading.local)

    @classmethod
    def load(
        cls,
        data: bytes,
        *,
        reference: str,
        stride: int,
        threads: int,
        workers: int,
        precision: Precision,
    ) -> OpenVinoRuntime:
        """A compiled model from the bytes of a file that ONNX Runtime took before.

        Args:
            data: The file that ``FILES`` names for the precision.
            reference: For errors.
            stride: That the file says.
            threads: Of one computation.
            workers: Computations at a time.
            precision: Of the computation.

        Raises:
            CorruptArtifactError: OpenVINO does not take it; says why.
        """
        settings = {
            "NUM_STREAMS": workers,
            "INFERENCE_NUM_THREADS": threads * workers,
            # What such a file leaves in floats was measured in 32 bits.
            "INFERENCE_PRECISION_HINT": "f32" if precision == "int8" else precision,
            # Pinned threads would sit on one core beside other processes that do the same.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = _core().compile_model(_core().read_model(data), "CPU", settings)
        except (RuntimeError, MemoryError) as exc:
            path = f"{reference}/{FILES[precision]}"
            raise CorruptArtifactError(f"{path}: OpenVINO failed: {exc}") from exc
        return cls(compiled, stride, precision)

    def run(self, outputs: Sequence[str], images: Pixels) -> list[Any]:
        """As the port says."""
        if not hasattr(self._requests, "mine"):
            self._requests.mine = self.compiled.create_infer_request()
        mine = self._requests.mine
        try:
            found = mine.infer({INPUT: images}, share_inputs=True, share_outputs=True)
            # The next run of this thread writes where these lie.
            return [found[name].copy() for name in outputs]
        except (RuntimeError, MemoryError) as exc:
            raise failed("OpenVINO", exc) from exc


@cache
def _core() -> Any:
    return openvino.Core()


def has_bfloat16() -> bool:
    """Whether this CPU computes in bfloat16 faster than it would emulate it."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
