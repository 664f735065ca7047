"""Files without a name: in memory, or on a disk that forgets them when they close."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable

_COPIED_AT_ONCE = 1 << 20


def nameless_file(folder: str = "") -> BinaryIO:
    """An empty file, open for writing and reading, that nothing else can find.

    Args:
        folder: Where its bytes are while it is open; in memory by default.
    """
    if not folder and hasattr(os, "memfd_create"):
        number = os.memfd_create("image")
    else:
        with tempfile.TemporaryFile(dir=folder or None) as made:
            number = os.dup(made.fileno())
    try:
        # Opened anew: libraries expect the name of an open file to be text, not a number.
        return Path(f"/dev/fd/{number}").open("w+b")
    finally:
        os.close(number)


def path_of(file: BinaryIO) -> tuple[str, Callable[[object], None]]:
    """A path under which libraries that want one may open a file.

    Args:
        file: Open for reading; what has no descriptor is copied.

    Returns:
        The path, and what ties its life to that of an object: it is good for as long as the
        object lives.
    """
    file.flush()
    number = _descriptor(file)

    def tie(owner: object) -> None:
        weakref.finalize(owner, os.close, number)

    return f"/dev/fd/{number}", tie


def _descriptor(file: BinaryIO) -> int:
    try:
        return os.dup(file.fileno())
    except OSError:  # io.BytesIO has none
        file.seek(0)
        with nameless_file() as copy:
            shutil.copyfileobj(file, copy, _COPIED_AT_ONCE)
            copy.flush()
            return os.dup(copy.fileno())
