"""What a running decoder may use, and what it holds, as the kernel tells it."""

from __future__ import annotations

import io
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from histill.ml.images import WHOLE_FILE, Image, Selection, Slide
from histill.ml.remote import RemoteFile

if TYPE_CHECKING:
    from histill.ml.decoders import Decoders

MAX_PIXELS = 200_000_000
MAX_SLIDE_PIXELS = 10_000_000_000


def remote(decoders: Decoders, data: bytes, selection: Selection = WHOLE_FILE) -> RemoteFile:
    """A file that decoders read; to be closed."""
    return RemoteFile(
        decoders,
        io.BytesIO(data),
        selection,
        max_pixels=MAX_PIXELS,
        max_slide_pixels=MAX_SLIDE_PIXELS,
    )


def decoded(decoders: Decoders, data: bytes) -> Image | Slide:
    """All of it, or what is too large for that."""
    with closing(remote(decoders, data)) as file:
        found = file.open()
        if isinstance(found, Slide) and found.size.pixels > MAX_PIXELS:
            return found
        return file.decode()


def children(parent: int) -> list[int]:
    """Processes that a process has started and that live."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            fields = (each / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(each.name))
    return found


def alive(process: int) -> bool:
    """Whether a process still runs."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(processes: list[int], *, seconds: float = 10.0) -> bool:
    """Whether all of them have ended within some time."""
    deadline = time.monotonic() + seconds
    while any(alive(each) for each in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def peak_bytes(process: int) -> int:
    """Most memory that a process ever held; 0 when it ends."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) * 1024 if lines else 0
