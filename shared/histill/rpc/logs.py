"""Structured logs on standard error: JSON for machines, colours for a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from histill.core.settings import LogSettings


def configure(settings: LogSettings, *, process: str) -> None:
    """Sets up structlog, and the standard library's logging through it.

    Args:
        settings: Level and form.
        process: Name of the process, on every line.
    """
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    as_json = not sys.stderr.isatty() if settings.json_lines is None else settings.json_lines

    def name_process(_: object, __: str, event: structlog.typing.EventDict) -> Any:
        return {"process": process, **event}

    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_process,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor
    if as_json:
        # Without the frames' variables: they hold keys and patients' images.
        frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        shared.append(structlog.processors.ExceptionRenderer(frames))
        last = structlog.processors.JSONRenderer()
    else:
        last = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[*shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                last,
            ],
            foreign_pre_chain=shared,
        )
    )
    # Libraries speak only when something is wrong.
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
