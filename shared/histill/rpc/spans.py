"""Spans, and the contexts in which they lie; imported only where tracing is on.

Nothing that a caller, a file or an exception says in free words becomes part of a span:
tracestate and baggage are not taken over, errors are told by their codes.
"""

from __future__ import annotations

import itertools
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

TRACEPARENT = "traceparent"
# Requests of one stream that get spans of their own; a stream has no end.
MOST_REQUESTS = 100
# Of W3C's header; the present version has 55 characters.
_MOST_CHARACTERS = 128
_PARTS = 1 << 53
_REQUESTS = contexts.create_key("histill-requests")
_W3C = TraceContextTextMapPropagator()


class Spans:
    """Makes spans with one tracer.

    Attributes:
        tracer: Of the process.
        ratio: Share of the traces that are kept where nobody who is known has decided, in [0, 1].
    """

    def __init__(self, tracer: Tracer, *, ratio: float = 1.0) -> None:
        self.tracer = tracer
        self.ratio = ratio

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: Context | None = None,
        attributes: Mapping[str, AttributeValue] | None = None,
        links: Sequence[SpanContext] = (),
        at: int | None = None,
    ) -> Span:
        """A span that somebody must end.

        Args:
            name: One of few: no id, no name of a file.
            kind: As OpenTelemetry has them.
            parent: Where it lies; ``None``: in the present context.
            attributes: What is known of it.
            links: Spans of other traces, or of the same one, that it has to do with.
            at: When it began, nanoseconds since 1970; ``None``: now.
        """
        return self.tracer.start_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            links=[Link(each) for each in links],
            start_time=at,
        )

    @contextmanager
    def within(self, span: Span) -> Iterator[None]:
        """What begins in the block is the span's child, and is counted by ``admits``."""
        before = contexts.get_current()
        counted = contexts.set_value(_REQUESTS, itertools.count(), before)
        contexts.attach(trace.set_span_in_context(span, counted))
        try:
            yield
        finally:
            # Not detached: a stream that nobody reads to its end may be closed in the context of
            # another call, whose span stays what it is.
            if trace.get_current_span() is span:
                contexts.attach(before)

    def admits(self) -> bool:
        """Whether one more request of the present call gets spans of its own."""
        count = contexts.get_value(_REQUESTS)
        if not trace.get_current_span().is_recording():
            return False
        return not isinstance(count, itertools.count) or next(count) < MOST_REQUESTS

    def chosen(self) -> bool:
        """Whether one more trace is among the share that is kept.

        Not by the trace's id, as where a trace begins here: who sends a header chooses the id.
        """
        return secrets.randbelow(_PARTS) < self.ratio * _PARTS

    def doubted(self, context: Context) -> Context:
        """A context of somebody unknown: what they want kept is kept as often as anything else."""
        span = span_of(context)
        if not span.trace_flags.sampled or self.chosen():
            return context
        dropped = SpanContext(span.trace_id, span.span_id, span.is_remote)
        return trace.set_span_in_context(NonRecordingSpan(dropped), context)

    def here(self) -> Context:
        """The present context."""
        return contexts.get_current()

    def note(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Adds to what is known of the present span."""
        trace.get_current_span().set_attributes(attributes)

    def under(self, span: Span) -> Context:
        """The context of a span's children."""
        return trace.set_span_in_context(span)

    def traceparent(self) -> str:
        """The present span as W3C's header; empty when there is none."""
        return traceparent_of(trace.get_current_span().get_span_context())


def remote(traceparent: str) -> Context:
    """The context that another process's header describes; an empty one when it is malformed."""
    sane = traceparent if len(traceparent) <= _MOST_CHARACTERS else ""
    return _W3C.extract({TRACEPARENT: sane}, contexts.Context())


def span_of(context: Context) -> SpanContext:
    """The span whose children lie in a context."""
    return trace.get_current_span(context).get_span_context()


def traceparent_of(span: SpanContext) -> str:
    """A span as W3C's header; empty when it is none."""
    if not span.is_valid:
        return ""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def trace_id(span: Span) -> dict[str, str]:
    """What log lines say, so that they are found from a trace that is kept, and it from them."""
    found = span.get_span_context()
    return {"trace_id": f"{found.trace_id:032x}"} if span.is_recording() else {}


def fail(span: Span, code: str) -> None:
    """Marks a span as failed, by a code: messages may hold what is nobody else's to read."""
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", code)
