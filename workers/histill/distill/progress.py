"""What the trainer says: events as JSON lines on stdout, its log on stderr."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import TYPE_CHECKING

import structlog

from histill.core.jobs import Progress
from histill.distill.workdir import RunEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

_EVERY_S = 0.5


def configure_logging() -> None:
    """Sends log lines to stderr, plain text, one a line: the job's watchers read them."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.ExceptionRenderer(),
            structlog.processors.KeyValueRenderer(
                key_order=["level", "event"], repr_native_str=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class Reporter:
    """Writes progress events, at most two a second.

    Args:
        stream: Where to; ``None`` says nothing, for all processes but the first.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, stream: TextIO | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._last = -math.inf

    @property
    def due(self) -> bool:
        """Whether an event would be written now."""
        return self._stream is not None and self._clock() - self._last >= _EVERY_S

    def report(
        self,
        stage: str,
        step: int = 0,
        steps: int = 0,
        *,
        eta_seconds: float = 0.0,
        metrics: Mapping[str, float] | None = None,
        force: bool = False,
    ) -> None:
        """Writes an event if one is due, or at once with ``force``.

        Values that are not finite are left out: JSON has no word for them.
        """
        if self._stream is None or not (force or self.due):
            return
        self._last = self._clock()
        event = RunEvent(
            progress=Progress(stage=stage, step=step, steps=steps, eta_seconds=eta_seconds),
            metrics={k: v for k, v in (metrics or {}).items() if math.isfinite(v)},
        )
        self._stream.write(event.model_dump_json() + "\n")
        self._stream.flush()
