"""Turns whatever stopped an attempt into words that a user can act on."""

from __future__ import annotations

import errno

import structlog

from histill.core.errors import (
    CorruptArtifactError,
    HistillError,
    NotFoundError,
    UnavailableError,
    UntrustedArtifactError,
    WorkFailedError,
)
from histill.core.jobs import JobError

log = structlog.get_logger()
# The first that fits counts.
_KNOWN: tuple[tuple[type[HistillError], str, str], ...] = (
    (
        NotFoundError,
        "NOT_FOUND",
        "it was deleted after the job was created; upload it again",
    ),
    (
        UntrustedArtifactError,
        "UNTRUSTED_ARTIFACT",
        "upload it again where uploads are signed, or trust its key (HISTILL_SIGNING__TRUSTED)",
    ),
    (
        CorruptArtifactError,
        "CORRUPT_ARTIFACT",
        "the stored file was damaged or changed; upload it again",
    ),
    (
        UnavailableError,
        "UNAVAILABLE",
        "a server did not answer for several attempts; run histill doctor",
    ),
)


def job_error(exc: Exception, log_tail: tuple[str, ...]) -> JobError:
    """Why the attempt failed, what helps, and the last lines of the trainer's log."""
    reason, hint = _reason_and_hint(exc)
    message = str(exc)
    if not isinstance(exc, HistillError | OSError):
        log.error("attempt_crashed", exc_info=exc)
        message = f"the worker failed: {type(exc).__name__}"
    return JobError(reason=reason, message=message, hint=hint, log_tail=log_tail)


def _reason_and_hint(exc: Exception) -> tuple[str, str]:
    if isinstance(exc, WorkFailedError):
        return exc.reason, exc.hint
    if isinstance(exc, OSError) and exc.errno == errno.ENOSPC:
        return "DISK_FULL", "free space in the scratch folder (HISTILL_WORKER__SCRATCH)"
    for kind, reason, hint in _KNOWN:
        if isinstance(exc, kind):
            return reason, hint
    return "INTERNAL", "the worker's log holds the traceback; please report it"
