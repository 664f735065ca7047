"""Students in ONNX Runtime, on the CPU or with CUDA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import onnxruntime
from onnxruntime.capi import (
    onnxruntime_pybind11_state as states,  # pyright: ignore[reportAttributeAccessIssue]
)

from histill.core.errors import CorruptArtifactError
from histill.core.onnx_form import what_is_wrong
from histill.inference.runtime import CONFIDENCE, FILES, INPUT, MASK, PROBABILITIES, failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from histill.inference.runtime import Precision

    Pixels = npt.NDArray[np.uint8]

_OUTPUTS = {MASK, CONFIDENCE, PROBABILITIES}
_CPU = "CPUExecutionProvider"
_STRIDE = "histill.stride"
_ERRORS = (
    *(states.Fail, states.InvalidArgument, states.InvalidGraph, states.InvalidProtobuf),
    *(states.NoModel, states.NotImplemented, states.EPFail, states.EngineError),
    *(states.ModelLoaded, states.RuntimeException, states.ModelRequiresCompilation),
    *(RuntimeError, ValueError),
)


@dataclass(frozen=True, eq=False)
class OnnxRuntime:
    """A session of ONNX Runtime; implements ``Runtime``.

    Attributes:
        session: With the inputs and outputs that ``load`` checked.
        stride: From the file's metadata.
        device: ``cpu`` or ``cuda``.
        precision: ``f32`` or ``int8``, as of the file.
    """

    session: Any
    stride: int
    device: str
    name: str = "onnxruntime"
    precision: Precision = "f32"

    @classmethod
    def load(
        cls,
        data: bytes,
        *,
        reference: str,
        channels: int,
        threads: int,
        device: str = "auto",
        precision: Precision = "f32",
    ) -> OnnxRuntime:
        """A session from the bytes of ``model.onnx`` or ``model.int8.onnx``.

        Args:
            data: The file.
            reference: For errors.
            channels: That the manifest promises.
            threads: Of one run.
            device: ``auto``, ``cpu`` or ``cuda``.
            precision: Of the file.

        Raises:
            CorruptArtifactError: It is no model, or not one of ours; says why.
        """
        path = f"{reference}/{FILES[precision]}"
        # Before anything parses it: a session would read the files that it names.
        if wrong := what_is_wrong(data):
            raise CorruptArtifactError(f"{path} cannot be served: it {wrong}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle threads that spin would take the cores from decoding and from other models.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.log_severity_level = 4
        providers = _providers(device)
        try:
            session = onnxruntime.InferenceSession(data, options, providers=providers)
            stride = _checked(session, channels)
        except _ERRORS as exc:
            raise CorruptArtifactError(f"{path} cannot be served: {exc}") from exc
        used = "cuda" if session.get_providers()[0].startswith("CUDA") else "cpu"
        return cls(session, stride, used, precision=precision)

    def run(self, outputs: Sequence[str], images: Pixels) -> list[Any]:
        """As the port says."""
        try:
            found: list[Any] = self.session.run(list(outputs), {INPUT: images})
        except _ERRORS as exc:
            raise failed("ONNX Runtime", exc) from exc
        return found


def uses_cuda(device: str) -> bool:
    """Whether ``auto``, ``cpu`` or ``cuda`` means a GPU here."""
    offered = onnxruntime.get_available_providers()
    return device == "cuda" or (device == "auto" and "CUDAExecutionProvider" in offered)


def _providers(device: str) -> list[Any]:
    if uses_cuda(device):
        # Not the default search, which tries every algorithm anew for each size of a batch.
        return [("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC"}), _CPU]
    return [_CPU]


def _checked(session: Any, channels: int) -> int:
    """The stride of a session whose inputs and outputs are what we call them by.

    Raises:
        ValueError: They are not.
    """
    inputs, outputs = session.get_inputs(), {each.name for each in session.get_outputs()}
    if [each.name for each in inputs] != [INPUT]:
        raise ValueError(f"its inputs are {[each.name for each in inputs]}, not [{INPUT!r}]")
    if inputs[0].type != "tensor(uint8)":
        raise ValueError(f"its input is {inputs[0].type}, not tensor(uint8)")
    if len(inputs[0].shape) != 4 or inputs[0].shape[3] not in {channels, None}:  # noqa: PLR2004
        raise ValueError(f"its input is {inputs[0].shape}, not [N, H, W, {channels}]")
    if missing := sorted(_OUTPUTS - outputs):
        raise ValueError(f"it has no output {', '.join(missing)}")
    stride = session.get_modelmeta().custom_metadata_map.get(_STRIDE, "")
    if not stride.isdigit() or not 1 <= int(stride) <= 256:  # noqa: PLR2004
        raise ValueError(f"its metadata {_STRIDE} is {stride!r}, not a number in [1, 256]")
    return int(stride)
