"""Which processes run on this machine (Linux), without asking a tool that may be missing."""

from __future__ import annotations

import contextlib
from pathlib import Path


def command_lines() -> dict[int, str]:
    """Command line of every process by its number."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode(errors="replace")
    return found


def running(words: str) -> dict[int, str]:
    """Those whose command line holds some words."""
    return {number: line for number, line in command_lines().items() if words in line}
