"""Whether this process makes spans, and what makes them.

Where tracing is off, as it is by default, nothing of OpenTelemetry is imported: whoever has a
span to make asks ``tracing()`` first and gets ``None``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.core.tracing_settings import TracingSettings
    from histill.rpc.spans import Spans


@dataclass
class _Process:
    spans: Spans | None = None


_PROCESS = _Process()


def tracing() -> Spans | None:
    """What makes this process's spans; ``None`` where tracing is off."""
    return _PROCESS.spans


def trace_with(spans: Spans | None) -> None:
    """Turns tracing on, or off; for the start and the end of a process."""
    _PROCESS.spans = spans


def traceparent() -> str:
    """The present span as W3C's header; empty where there is none.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header.
    """
    return "" if _PROCESS.spans is None else _PROCESS.spans.traceparent()


@contextmanager
def traces_exported(settings: TracingSettings, *, process: str) -> Iterator[None]:
    """Traces what the process does in the block, where the settings name a collector.

    Args:
        settings: Where to, and how many.
        process: Its name; in traces it is the service ``histill-NAME``.

    Raises:
        SettingsError: A file that the settings name cannot be read.
    """
    if not settings.endpoint:
        yield
        return
    from histill.rpc.trace_export import exporting

    with exporting(settings, process=process):
        yield
