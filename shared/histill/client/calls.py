"""One place where gRPC's errors become ours."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from histill.rpc.statuses import from_rpc_error

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def translated() -> Iterator[None]:
    """Raises ``histill.core.errors`` for every ``grpc.RpcError`` of the block."""
    try:
        yield
    except grpc.RpcError as exc:
        raise from_rpc_error(exc) from exc
