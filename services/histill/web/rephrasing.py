"""What a service's error means to somebody at the page: no addresses, no methods of gRPC."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import grpc
from grpc_status import rpc_status

from histill.core.errors import (
    DeadlineExceededError,
    HistillError,
    PermissionDeniedError,
    UnavailableError,
)
from histill.rpc.statuses import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Callable

_METHOD = re.compile(r"^/\S+ ")
# Of gRPC itself: the service did not say anything.
_SILENT: dict[grpc.StatusCode, tuple[Callable[[str], HistillError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (UnavailableError, "does not answer; try again in a moment"),
    grpc.StatusCode.CANCELLED: (UnavailableError, "is being restarted; try again in a moment"),
    grpc.StatusCode.DEADLINE_EXCEEDED: (DeadlineExceededError, "did not answer in time"),
    grpc.StatusCode.UNIMPLEMENTED: (HistillError, "is of another version and does not know this"),
}


def rephrased(exc: grpc.RpcError, service: str) -> HistillError:
    """The error that a failed call stands for.

    Args:
        exc: What gRPC raised.
        service: Its name for people.
    """
    if isinstance(exc, grpc.Call) and exc.code() in _SILENT and not _is_told(exc):
        kind, words = _SILENT[exc.code()]
        return kind(f"the {service} {words}")
    found = from_rpc_error(exc)
    if isinstance(found, PermissionDeniedError):
        return PermissionDeniedError(_METHOD.sub("this ", str(found)))
    return found


def _is_told(exc: grpc.Call) -> bool:
    """Whether the service itself said so: its errors have details."""
    try:
        return rpc_status.from_call(exc) is not None
    except ValueError:
        return False
