"""The span of a call that a server answers."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import grpc
import structlog

from histill.rpc.auth import ANONYMOUS
from histill.rpc.roles import OPEN_PREFIXES
from histill.rpc.tracing import tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from histill.rpc.interceptor import Rpc
    from histill.rpc.spans import Spans

_OFF = nullcontext()
# The server's own faults; the others are the caller's.
# Source: https://opentelemetry.io/docs/specs/semconv/rpc/grpc/.
FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


def traced(rpc: Rpc, metadata: Mapping[str, str]) -> AbstractContextManager[None]:
    """Makes the span of a call while the block runs, in its caller's trace if it names one.

    Whoever is known decides whether their trace is kept. Who that is turns out in the block: of
    somebody who stays unknown and wants it kept the span is only sent as often as of others.

    Args:
        rpc: The call; its code and caller are looked at in the end.
        metadata: What came with it.
    """
    spans = tracing()
    # Probes and reflection would be most of all traces, and tell nothing.
    if spans is None or rpc.method.startswith(OPEN_PREFIXES):
        return _OFF
    return _traced(spans, rpc, metadata)


@contextmanager
def _traced(spans: Spans, rpc: Rpc, metadata: Mapping[str, str]) -> Iterator[None]:
    from opentelemetry.trace import SpanKind

    from histill.rpc.spans import TRACEPARENT, fail, remote, span_of, trace_id

    _, service, method = rpc.labels
    parent = remote(metadata.get(TRACEPARENT, ""))
    span = spans.begin(
        f"{service}/{method}",
        kind=SpanKind.SERVER,
        parent=parent,
        attributes={
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "histill.request_id": rpc.request_id,
        },
    )
    logged = structlog.contextvars.bound_contextvars(**trace_id(span))
    try:
        with spans.within(span), logged:
            yield
    finally:
        number: int = rpc.code.value[0]
        span.set_attribute("rpc.grpc.status_code", number)
        if rpc.code in FAULTS:
            fail(span, rpc.code.name)
        if rpc.caller is not ANONYMOUS:
            span.set_attribute("histill.project", rpc.caller.project)
            span.end()
        elif not span_of(parent).trace_flags.sampled or spans.chosen():
            # One that does not end is sent nowhere. It has no children: nobody was let in.
            span.end()
