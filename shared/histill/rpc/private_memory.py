"""Keeps what a process holds to itself: images, keys, tokens."""

from __future__ import annotations

import contextlib
import ctypes
import resource

_SET_DUMPABLE = 4  # PR_SET_DUMPABLE in sys/prctl.h


def keep_memory_private() -> None:
    """Writes no core dump, and lets no process of the same user read our memory (Linux).

    A decoder of foreign files that was taken over runs as the same user; without this it
    could attach to its parent, or read its environment.

    Source: prctl(2), PR_SET_DUMPABLE; ptrace(2), "Ptrace access mode checking".
    """
    with contextlib.suppress(ValueError, OSError):  # a lower limit than ours holds already
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError, OSError):  # no prctl: not Linux
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0, 0, 0, 0)
