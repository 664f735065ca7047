"""Keeps the process from holding memory that it has freed."""

from __future__ import annotations

import ctypes
import gc

_ARENA_MAX = -8  # M_ARENA_MAX in glibc's malloc.h
_ARENAS = 2


def share_arenas() -> None:
    """Has all threads allocate from two heaps; to be called before there are any.

    glibc gives nearly every thread one of its own, which keeps what that thread has freed.
    """
    try:
        ctypes.CDLL(None).mallopt(_ARENA_MAX, _ARENAS)
    except (AttributeError, OSError):  # another C library
        return


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
