"""Spans of calls that a program makes to the services, and their way into the metadata."""

from __future__ import annotations

import sys
import weakref
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span, Tracer


class CallDetails(NamedTuple):
    """What gRPC tells an interceptor of a call, to be told on with more metadata."""

    method: Any
    timeout: Any
    metadata: Any
    credentials: Any
    wait_for_ready: Any
    compression: Any

    @classmethod
    def of(cls, details: Any, *metadata: tuple[str, str]) -> CallDetails:
        """The details of a call, with more metadata."""
        return cls(
            details.method,
            details.timeout,
            (*(details.metadata or ()), *metadata),
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class ProgramSpans(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Traces calls with the tracer provider of whoever uses the SDK, if the program has one."""

    def _one(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        span = _program_span(details)
        if span is None:
            return continuation(details, request)
        call = _made(span, continuation, details, request)
        call.add_done_callback(lambda ended: end(span, ended.code()))
        return call

    def _many(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        span = _program_span(details)
        if span is None:
            return continuation(details, request)
        return _Stream(_made(span, continuation, details, request), span)

    intercept_unary_unary: Any = _one
    intercept_unary_stream: Any = _many
    intercept_stream_unary: Any = _one
    intercept_stream_stream: Any = _many


class _Stream:
    """Answers to one call, as gRPC gives them; the call's span ends with it, however it ends.

    gRPC cancels a call that nobody holds any more, and nothing of ours may hold it longer than
    whoever reads: a callback with the call in it would.
    """

    def __init__(self, call: Any, span: Span) -> None:
        self._call = call
        self._ending = _Ending(span)
        if not call.add_callback(_told(weakref.ref(call), self._ending)):
            self._ending.end(call.code())

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except (StopIteration, grpc.RpcError):
            # Here, too: the call may be gone by the time that gRPC's thread calls back.
            self._ending.end(self._call.code())
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class _Ending:
    """Ends a span once, though gRPC's thread and the reader's may come at the same time."""

    def __init__(self, span: Span) -> None:
        self._left = [span]

    def end(self, code: grpc.StatusCode) -> None:
        # One thread alone gets it out of the list.
        with suppress(IndexError):
            end(self._left.pop(), code)


def _told(call: weakref.ref[Any], ending: _Ending) -> Callable[[], None]:
    """What gRPC calls when the call has ended."""

    def ended() -> None:
        held = call()
        ending.end(grpc.StatusCode.CANCELLED if held is None else held.code())

    return ended


def _program_span(details: Any) -> Span | None:
    tracer = _program_tracer()
    return begun(tracer, str(details.method)) if tracer else None


def _made(span: Span, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
    try:
        return continuation(CallDetails.of(details, header(span)), request)
    except BaseException:  # Ctrl-C: gRPC hands its own errors back
        end(span, grpc.StatusCode.CANCELLED)
        raise


def _program_tracer() -> Tracer | None:
    # Whoever set a provider has imported this. Nobody else shall pay for it.
    return _tracer() if "opentelemetry.trace" in sys.modules else None


@cache
def _tracer() -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer("histill.client", version("histill"))


def begun(tracer: Tracer, full_method: str) -> Span | None:
    """The span of a call; ``None`` where nothing makes any.

    Args:
        tracer: Makes it.
        full_method: ``/package.Service/Method``.
    """
    from opentelemetry.trace import SpanKind

    service, _, method = full_method.removeprefix("/").partition("/")
    span = tracer.start_span(
        f"{service}/{method}",
        kind=SpanKind.CLIENT,
        attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
    )
    return span if span.get_span_context().is_valid else None


def header(span: Span) -> tuple[str, str]:
    """What tells the service in which trace a call is made."""
    from histill.rpc.spans import TRACEPARENT, traceparent_of

    return TRACEPARENT, traceparent_of(span.get_span_context())


def end(span: Span, code: grpc.StatusCode) -> None:
    """Ends the span of a call; any status but OK is a failure to its caller."""
    from histill.rpc.spans import fail

    number: int = code.value[0]
    span.set_attribute("rpc.grpc.status_code", number)
    if code is not grpc.StatusCode.OK:
        fail(span, code.name)
    span.end()
