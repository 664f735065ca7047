"""The health service's answers, which no caller can hold up.

The one that comes with grpc tells its watchers one after the other and waits for each: one that
does not read would hold back the truth from all others, and from who sets it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    Context = grpc.aio.ServicerContext[Any, Any]

# ruff: noqa: N802 - the API's names
_ANSWER = health_pb2.HealthCheckResponse


class HealthChecks(health_pb2_grpc.HealthServicer):
    """Implements ``grpc.health.v1.Health``; for one event loop.

    Args:
        names: Whose health is told; none of them serves at first.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._states = dict.fromkeys(names, False)
        self._changed = asyncio.Event()

    def tell(self, names: Sequence[str], *, serving: bool) -> None:
        """Says from now on that these serve, or do not."""
        self._states |= dict.fromkeys(names, serving)
        # Whoever waits wakes up, each at its own pace; the next change has an event of its own.
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        """The present state."""
        if request.service not in self._states:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service is told of here")
        return _ANSWER(status=self._status(request.service))

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncIterator[Any]:
        """The present state, and each one that follows."""
        del context
        told: int | None = None
        while True:
            changed, now = self._changed, self._status(request.service)
            if now == told:
                await changed.wait()
                continue
            told = now
            yield _ANSWER(status=now)

    def _status(self, name: str) -> Any:
        if name not in self._states:
            return _ANSWER.SERVICE_UNKNOWN
        return _ANSWER.SERVING if self._states[name] else _ANSWER.NOT_SERVING
