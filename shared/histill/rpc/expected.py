"""Counts of calls that are there before the first call.

Prometheus sees how much a count has grown between two looks. A count that first shows after
ten calls have failed would tell it of none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pool

from histill.rpc import measures
from histill.rpc.interceptor import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHOWN = (
    grpc.StatusCode.OK,
    # Our side failed, whatever was asked.
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
    # There was no room.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


def expect_calls(services: Iterable[str]) -> None:
    """Shows every method of some services with its counts at 0.

    Args:
        services: Full names of gRPC services; those without generated code tell no methods,
            and are passed over.
    """
    for name in services:
        for method in _methods(name):
            kind, _ = KINDS[method.client_streaming, method.server_streaming]
            labels = kind, name, method.name
            measures.STARTED.labels(*labels)
            measures.SECONDS.labels(*labels)
            for code in _SHOWN:
                measures.HANDLED.labels(*labels, code.name)


def _methods(service: str) -> Sequence[Any]:
    try:
        return descriptor_pool.Default().FindServiceByName(service).methods
    except KeyError:
        return ()
