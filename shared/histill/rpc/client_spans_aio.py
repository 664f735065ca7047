"""Spans of calls that a process of ours makes to the services, with asyncio."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from histill.rpc.client_spans import begun, end, header
from histill.rpc.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from opentelemetry.trace import Span


class _Traced:
    """What the four kinds of calls have in common; gRPC wants an object for each."""

    def __init__(self) -> None:
        self._ending: set[asyncio.Task[None]] = set()

    async def call(
        self, continuation: Callable[..., Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        """Makes a call within a span that ends with it."""
        spans = tracing()
        span = begun(spans.tracer, details.method.decode()) if spans else None
        if span is None:
            return await continuation(details, request)
        metadata = grpc.aio.Metadata(*(details.metadata or ()), header(span))
        try:
            call = await continuation(details._replace(metadata=metadata), request)
        except BaseException:
            end(span, grpc.StatusCode.CANCELLED)
            raise
        task = asyncio.create_task(self._end(span, call))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return call

    @staticmethod
    async def _end(span: Span, call: Any) -> None:
        # Answers when the call has ended, a stream after its last message.
        end(span, await call.code())


class _UnaryUnary(_Traced, grpc.aio.UnaryUnaryClientInterceptor):
    intercept_unary_unary: Any = _Traced.call


class _UnaryStream(_Traced, grpc.aio.UnaryStreamClientInterceptor):
    intercept_unary_stream: Any = _Traced.call


class _StreamUnary(_Traced, grpc.aio.StreamUnaryClientInterceptor):
    intercept_stream_unary: Any = _Traced.call


class _StreamStream(_Traced, grpc.aio.StreamStreamClientInterceptor):
    intercept_stream_stream: Any = _Traced.call


def interceptors() -> Sequence[grpc.aio.ClientInterceptor]:
    """What traces the calls of a channel; nothing where tracing is off."""
    if tracing() is None:
        return ()
    return _UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream()
