"""Spans on their way to a collector: how many may wait, and how many never came there.

Imported only where tracing is on.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

_TOLD_EVERY_S = 60.0
log = structlog.get_logger()


class Waiting:
    """Counts spans that wait and spans that are lost; says the latter once a minute at most.

    Args:
        most: That may wait.
        endpoint: For words.
    """

    def __init__(self, *, most: int, endpoint: str) -> None:
        self._most = most
        self._endpoint = endpoint
        self._waiting = 0
        self._lost = 0
        self._told = float("-inf")
        self._lock = threading.Lock()

    def admits(self) -> bool:
        """Whether there is room for one more, which it takes; if not, that one is lost."""
        with self._lock:
            free = self._waiting < self._most
            self._waiting += free
            self._lost += not free
            return free

    def leave(self, count: int) -> None:
        """So many are about to be sent."""
        with self._lock:
            self._waiting -= count

    def lose(self, count: int) -> None:
        """So many could not be sent."""
        with self._lock:
            self._lost += count

    def tell(self) -> None:
        """Says what was lost since it was last said, unless that is less than a minute ago."""
        if time.monotonic() - self._told >= _TOLD_EVERY_S:
            self._warn()

    def close(self) -> None:
        """Nothing is sent any more: what still waits is lost, and all of that is said now."""
        with self._lock:
            self._lost += self._waiting
            self._waiting = self._most = 0
        self._warn()

    def _warn(self) -> None:
        with self._lock:
            lost, self._lost = self._lost, 0
        if lost:
            log.warning("spans_lost", count=lost, endpoint=self._endpoint)
            self._told = time.monotonic()


class Bounded(SpanProcessor):
    """Hands on as many spans as may wait; the SDK's own queue drops without counting.

    Args:
        inner: Has room for as many, and one batch more: it may have taken that out of its queue
            before the exporter says so.
        waiting: Counts.
    """

    def __init__(self, inner: SpanProcessor, waiting: Waiting) -> None:
        self._inner = inner
        self._waiting = waiting

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Hands it on."""
        self._inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Hands on a span that has ended, if there is room."""
        context = span.get_span_context()
        if context and context.trace_flags.sampled and self._waiting.admits():
            self._inner.on_end(span)

    def shutdown(self) -> None:
        """Ends the inner one."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Has the inner one send what waits."""
        return self._inner.force_flush(timeout_millis)


class Quietly(SpanExporter):
    """An exporter that tells of what is lost and of nothing else, and ends at once.

    Args:
        inner: Sends.
        waiting: Counts.
    """

    def __init__(self, inner: SpanExporter, waiting: Waiting) -> None:
        self._inner = inner
        self._waiting = waiting
        self._ended = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends, or drops what cannot be sent."""
        self._waiting.leave(len(spans))
        result = SpanExportResult.FAILURE
        try:
            if not self._ended.is_set():
                result = self._inner.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                self._waiting.lose(len(spans))
            # At the end all is told at once.
            if not self._ended.is_set():
                self._waiting.tell()
        return result

    def shutdown(self) -> None:
        """Sends nothing more, and breaks off what is being sent; may be called twice."""
        if not self._ended.is_set():
            self._ended.set()
            self._inner.shutdown()
