"""From exceptions to error.json."""

from __future__ import annotations

import errno

import pytest
import torch

from histill.core.errors import WorkFailedError
from histill.distill.reasons import trainer_error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WorkFailedError("it failed", reason="DIVERGED", hint="try this"), "DIVERGED"),
        (MemoryError(), "OUT_OF_MEMORY"),
        (torch.OutOfMemoryError("CUDA out of memory"), "OUT_OF_MEMORY"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), "OUT_OF_MEMORY"),
        (OSError(errno.ENOSPC, "No space left on device"), "DISK_FULL"),
        (RuntimeError("anything else"), "INTERNAL"),
    ],
)
def test_every_failure_has_a_reason_and_a_hint(error: Exception, reason: str) -> None:
    """Whatever was raised becomes a reason for programs and a hint for people."""
    told = trainer_error(error)
    assert told.reason == reason
    assert told.message
    assert told.hint
