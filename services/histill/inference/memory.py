"""Gives memory back to the system after a model was let go."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Collects what nobody holds, and has the allocator return its free pages.

    glibc keeps freed memory for itself otherwise: a service that has let ten models go
    would look as if it still had them.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library, which has its own ways
        return
