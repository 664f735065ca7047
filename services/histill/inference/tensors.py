"""Tensors of the Open Inference Protocol as arrays, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from histill.core.errors import InvalidArgumentError
from histill.inference.runtime import CONFIDENCE, INPUT, MASK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from histill.api.inference.v2 import grpc_service_pb2 as pb

OUTPUTS = {MASK: "UINT8", CONFIDENCE: "FP32"}
_TYPES = {"UINT8": "u1", "FP32": "<f4"}
_MAX_SIDE = 100_000
MAX_BATCH = 64  # images of one request


def image_batch(request: pb.ModelInferRequest) -> npt.NDArray[np.uint8]:
    """The one input, ``image``, uint8 [N, H, W, C].

    Raises:
        InvalidArgumentError: Name, type, shape or content are wrong; names the field.
    """
    if [each.name for each in request.inputs] != [INPUT]:
        raise InvalidArgumentError.of("inputs", f"must be one tensor named {INPUT!r}")
    tensor = request.inputs[0]
    _no_parameters("inputs[0]", tensor.parameters)
    if tensor.datatype != "UINT8":
        raise InvalidArgumentError.of("inputs[0].datatype", f"{tensor.datatype!r}; must be UINT8")
    shape = tuple(tensor.shape)
    if len(shape) != 4 or not all(1 <= side <= _MAX_SIDE for side in shape):  # noqa: PLR2004
        raise InvalidArgumentError.of(
            "inputs[0].shape", f"{list(shape)}; must be [N, H, W, C] without empty sides"
        )
    if shape[0] > MAX_BATCH:
        raise InvalidArgumentError.of("inputs[0].shape", f"at most {MAX_BATCH} images a request")
    data = _content(request, tensor, math.prod(shape))
    if data.size != math.prod(shape):
        raise InvalidArgumentError.of(
            "inputs[0]", f"{data.size} values; {list(shape)} needs {math.prod(shape)}"
        )
    return data.reshape(shape)


def _content(
    request: pb.ModelInferRequest, tensor: pb.ModelInferRequest.InferInputTensor, number: int
) -> npt.NDArray[np.uint8]:
    if request.raw_input_contents:
        if len(request.raw_input_contents) != 1 or tensor.HasField("contents"):
            raise InvalidArgumentError.of(
                "raw_input_contents", "must hold one entry, and contents must then be unset"
            )
        return np.frombuffer(request.raw_input_contents[0], np.uint8)
    given = tensor.contents.uint_contents
    if len(given) != number:  # before they are copied
        raise InvalidArgumentError.of("inputs[0]", f"{len(given)} values; its shape needs {number}")
    values = np.fromiter(given, np.uint32, number)
    if values.size and values.max() > 255:  # noqa: PLR2004 - a byte
        raise InvalidArgumentError.of("inputs[0].contents.uint_contents", "values above 255")
    return values.astype(np.uint8)


def _no_parameters(path: str, parameters: Mapping[str, Any]) -> None:
    if parameters:
        name = min(parameters)[:64]
        raise InvalidArgumentError.of(
            f"{path}.parameters[{name}]", "tensors take no parameters here, nor shared memory"
        )


def answer_bytes(shape: Sequence[int], names: Sequence[str]) -> int:
    """Bytes of the outputs of images [N, H, W, C]."""
    return math.prod(shape[:3]) * sum(np.dtype(_TYPES[OUTPUTS[name]]).itemsize for name in names)


def wanted(request: pb.ModelInferRequest) -> list[str]:
    """Names of the outputs that are asked for, all when none is named.

    Raises:
        InvalidArgumentError: There is no output of that name.
    """
    names = [each.name for each in request.outputs] or list(OUTPUTS)
    for index, name in enumerate(names):
        if name not in OUTPUTS:
            raise InvalidArgumentError.of(
                f"outputs[{index}].name", f"{name!r}; must be one of {', '.join(OUTPUTS)}"
            )
        if name in names[:index]:
            raise InvalidArgumentError.of(f"outputs[{index}].name", f"{name!r} is asked for twice")
    for index, each in enumerate(request.outputs):
        _no_parameters(f"outputs[{index}]", each.parameters)
    return names


def add_outputs(response: pb.ModelInferResponse, found: Mapping[str, npt.NDArray[Any]]) -> None:
    """Puts outputs, [N, H, W], into a response as raw contents."""
    for name, output in found.items():
        values = output.astype(_TYPES[OUTPUTS[name]], copy=False)
        response.outputs.add(name=name, datatype=OUTPUTS[name], shape=values.shape)
        response.raw_output_contents.append(values.tobytes())
