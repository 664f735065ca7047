"""Looks at a TorchScript program from outside: is it one? It is never loaded here.

A program is a zip of ``{name}/data.pkl``, ``{name}/constants.pkl``, ``{name}/code/`` and
tensors, which are not compressed. Its code is plain text; what reads or writes files is
refused by name, since a network needs none of it.
"""

from __future__ import annotations

import re
import struct
import zipfile
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

MAX_DIRECTORY_BYTES = 32 << 20
# Code is compressed, some times to a hundredth; tensors, nearly all of a file, are not.
_UNPACKED_RATIO = 4
_UNPACKED_SLACK_BYTES = 64 << 20
# How torch writes calls: torch.op(…) for its own operators, ops.space.op(…) for others.
_TOUCHES_FILES = re.compile(
    rb"((?:torch|ops\.\w+)\.(?:from_file|save|load|_save|_load|as_file)\b|torch\.classes\.\w+)"
)
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_MARK = b"PK\x06\x06"
_MAX_COMMENT_BYTES = 65_535


def check_program(path: Path, *, field: str) -> None:
    """Returns when a file has the outer form of a TorchScript program.

    Args:
        path: The file.
        field: Path for the error.

    Raises:
        InvalidArgumentError: It is no zip, another kind of zip, unpacks to far more than
            it holds, or its code touches files.
    """
    try:
        if _directory_bytes(path) > MAX_DIRECTORY_BYTES:
            raise InvalidArgumentError.of(field, f"{path.name} has an endless table of contents")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError) as exc:
        raise InvalidArgumentError.of(
            field, f"{path.name} is no TorchScript program, not even a zip: {exc}"
        ) from exc
    inner = {entry.filename.partition("/")[2] for entry in entries}
    if "data.pkl" in inner and "constants.pkl" not in inner:
        raise InvalidArgumentError.of(
            field,
            f"{path.name} is a pickle of torch.save, which is not taken; write it with "
            "torch.jit.script(net).save(path), or torch.jit.trace",
        )
    if not {"data.pkl", "constants.pkl"} <= inner or not any(n.startswith("code/") for n in inner):
        raise InvalidArgumentError.of(field, f"{path.name} is a zip, but no TorchScript program")
    unpacked, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if unpacked > _UNPACKED_RATIO * size + _UNPACKED_SLACK_BYTES:
        raise InvalidArgumentError.of(
            field, f"{path.name} has {size} bytes and would unpack to {unpacked}"
        )
    if found := _file_operators(path):
        raise InvalidArgumentError.of(
            field,
            f"the code in {path.name} calls {found}, which touches files; export the network "
            "alone, without loading or saving",
        )


def _file_operators(path: Path) -> str:
    """Operators in a program's code that read or write files, or classes of its own making."""
    found: set[bytes] = set()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.filename.partition("/")[2].startswith("code/"):
                found |= set(_TOUCHES_FILES.findall(archive.read(entry)))
    return ", ".join(sorted(name.decode() for name in found))


def _directory_bytes(path: Path) -> int:
    """Size of the table of contents, which zipfile would read into memory whole."""
    reach = _END.size + _MAX_COMMENT_BYTES + _END_64.size + 20  # a locator between both
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - reach))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise zipfile.BadZipFile("it has no end record")
    found = _END.unpack_from(tail, at)[5]
    # Every record that may be the larger form's: readers differ in which one they take.
    at_64 = tail.find(_END_64_MARK)
    while 0 <= at_64 <= len(tail) - _END_64.size:
        found = max(found % 0xFFFFFFFF, _END_64.unpack_from(tail, at_64)[8])
        at_64 = tail.find(_END_64_MARK, at_64 + 1)
    return int(found)
