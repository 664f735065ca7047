"""Why a training fails: the reasons, and any exception in words a user can act on."""

from __future__ import annotations

import errno

from histill.core.errors import WorkFailedError
from histill.core.jobs import JobError

DATASET_INVALID = "DATASET_INVALID"
TEACHER_MISMATCH = "TEACHER_MISMATCH"
OUT_OF_MEMORY = "OUT_OF_MEMORY"
DIVERGED = "DIVERGED"
DEAD_START = "DEAD_START"
EXPORT_MISMATCH = "EXPORT_MISMATCH"
DISK_FULL = "DISK_FULL"
INTERNAL = "INTERNAL"
TRAINER_CRASHED = "TRAINER_CRASHED"
# A trainer that was taken over can write others.
REASONS = frozenset(
    {
        DATASET_INVALID,
        TEACHER_MISMATCH,
        OUT_OF_MEMORY,
        DIVERGED,
        DEAD_START,
        EXPORT_MISMATCH,
        DISK_FULL,
        INTERNAL,
        TRAINER_CRASHED,
    }
)

# torch raises a plain RuntimeError with this text when the CPU allocator fails.
_CPU_OUT_OF_MEMORY = "can't allocate memory"


def dataset_invalid(message: str, *, hint: str) -> WorkFailedError:
    """The error for a dataset that cannot be trained on."""
    return WorkFailedError(message, reason=DATASET_INVALID, hint=hint)


def teacher_mismatch(message: str, *, hint: str) -> WorkFailedError:
    """The error for a teacher that does not fit the dataset or its own manifest."""
    return WorkFailedError(message, reason=TEACHER_MISMATCH, hint=hint)


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a GPU or on the CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and _CPU_OUT_OF_MEMORY in str(error))
    )


def trainer_error(error: Exception) -> JobError:
    """What ``error.json`` says about an exception."""
    if isinstance(error, WorkFailedError):
        return JobError(reason=error.reason, message=str(error), hint=error.hint)
    if is_out_of_memory(error):
        return JobError(
            reason=OUT_OF_MEMORY,
            message="memory ran out while training",
            hint="Lower training.batch_size, the size of crops or samples, samples.memory, or the "
            "network's width.",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return JobError(
            reason=DISK_FULL,
            message="the worker's scratch folder is full",
            hint="Free space there, or give the worker a larger one.",
        )
    return JobError(
        reason=INTERNAL,
        message=f"{type(error).__name__}: {error}",
        hint="This is a fault of histill's; the log holds the traceback. Please report it.",
    )
