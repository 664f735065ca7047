"""Turns whatever stopped an attempt into words that a user can act on."""

from __future__ import annotations

import errno

import structlog

from histill.core.errors import (
    CorruptArtifactError,
    HistillError,
    NotFoundError,
    UnavailableError,
    WorkFailedError,
)
from histill.core.jobs import JobError

log = structlog.get_logger()


def job_error(exc: Exception, log_tail: tuple[str, ...]) -> JobError:
    """Why the attempt failed, what helps, and the last lines of the trainer's log."""
    reason, hint = _reason_and_hint(exc)
    message = str(exc)
    if not isinstance(exc, HistillError | OSError):
        log.error("attempt_crashed", exc_info=exc)
        message = f"the worker failed: {type(exc).__name__}"
    return JobError(reason=reason, message=message, hint=hint, log_tail=log_tail)


def _reason_and_hint(exc: Exception) -> tuple[str, str]:
    match exc:
        case WorkFailedError():
            return exc.reason, exc.hint
        case NotFoundError():
            return "NOT_FOUND", "it was deleted after the job was created; upload it again"
        case CorruptArtifactError():
            return "CORRUPT_ARTIFACT", "the stored file was damaged or changed; upload it again"
        case UnavailableError():
            return "UNAVAILABLE", "a server did not answer for several attempts; run histill doctor"
        case OSError(errno=errno.ENOSPC):
            return (
                "DISK_FULL",
                "free space in the scratch folder (HISTILL_WORKER__SCRATCH)",
            )
        case _:
            return "INTERNAL", "the worker's log holds the traceback; please report it"
