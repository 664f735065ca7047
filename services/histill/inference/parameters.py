"""Parameters of requests that Triton's extensions name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from histill.api.inference.v2 import grpc_service_pb2 as pb

_FIRST = 1  # the highest priority; 0 is the model's own


def urgent(request: pb.ModelInferRequest) -> bool:
    """Whether ``priority`` is 1.

    Raises:
        InvalidArgumentError: It is no number, or negative.
    """
    return _number(request, "priority") == _FIRST


def timeout_s(request: pb.ModelInferRequest) -> float | None:
    """Seconds after which nothing is begun, of ``timeout`` in microseconds; 0 sets no bound.

    Raises:
        InvalidArgumentError: It is no number, or negative.
    """
    microseconds = _number(request, "timeout")
    return microseconds / 1e6 if microseconds else None


def flag(request: pb.ModelInferRequest, name: str) -> bool:
    """A parameter that is true or false; false where it is unset.

    Raises:
        InvalidArgumentError: It is neither.
    """
    if name not in request.parameters:
        return False
    value = request.parameters[name]
    if value.WhichOneof("parameter_choice") != "bool_param":
        raise InvalidArgumentError.of(f"parameters[{name}]", "must be true or false")
    return value.bool_param


def _number(request: pb.ModelInferRequest, name: str) -> int:
    if name not in request.parameters:  # asking the map itself would put it there
        return 0
    value = request.parameters[name]
    if value.WhichOneof("parameter_choice") not in {"int64_param", "uint64_param"}:
        raise InvalidArgumentError.of(f"parameters[{name}]", "must be a whole number")
    found = value.int64_param or value.uint64_param
    if found < 0:
        raise InvalidArgumentError.of(f"parameters[{name}]", f"{found}; must not be negative")
    return found
