"""Looks at a TorchScript program from outside: is it one? It is never loaded here.

A program is a zip of ``{name}/data.pkl``, ``{name}/constants.pkl``, ``{name}/code/`` and
tensors, which are not compressed. Its code is plain text; what reads or writes files is
refused by name, since a network needs none of it.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError
from histill.core.pickled_tensors import claimed_values

if TYPE_CHECKING:
    from pathlib import Path

# Some forty thousand entries, each of which takes a thousand bytes of memory.
MAX_DIRECTORY_BYTES = 4 << 20
# Of all code, and of what describes tensors.
_MAX_TEXT_BYTES = 16 << 20
_ENCRYPTED = 1
# Code is compressed, some times to a hundredth; tensors, nearly all of a file, are not.
_UNPACKED_RATIO = 4
_UNPACKED_SLACK_BYTES = 64 << 20
# How torch writes calls: torch.op(…) for its own operators, ops.space.op(…) for others. It
# reads more than it writes: between the parts of a name there may be blanks, broken lines and
# comments, and torch, ops and ops.space are values that could go by other names. So whatever
# follows a dot counts, and those three must be followed by one.
_GAP = rb"[\s\\]*"  # comments are taken out before
_DOT = _GAP + rb"\." + _GAP
_OPERATORS = rb"(?:from_file|as_file|save|load|_save|_load)\b"
_TOUCHES_FILES = re.compile(
    rb"((?<!\w)(?:torch|ops" + _DOT + rb"\w+)" + _DOT + _OPERATORS
    + rb"|torch" + _DOT + rb"classes\b|\b(?:from_file|as_file)\b)"
)  # fmt: skip
# Messages of errors are text too, and may speak of torch; a quote in a comment begins none. What
# does not end, which torch takes for no program, goes on to the end: no byte is looked at twice.
_TEXT = re.compile(
    rb"#[^\n]*"
    rb"|\"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)|'''(?:\\.|[^\\])*?(?:'''|\Z)"
    rb"|\"(?:\\.|[^\"\\\n])*+\"?|'(?:\\.|[^'\\\n])*+'?",
    re.DOTALL,
)
_HIDDEN_CALL = re.compile(
    rb"(\." + _GAP + _OPERATORS
    + rb"|(?<![\w.])torch\b(?!" + _DOT + rb"\w)"
    + rb"|(?<![\w.])ops\b(?!" + _DOT + rb"\w+" + _DOT + rb"\w)"
    + rb"|\bgetattr" + _GAP + rb"\([\s(\\]*(?:torch|ops)\b)"
)  # fmt: skip
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_END_64_MARK = b"PK\x06\x06"
_MAX_COMMENT_BYTES = 65_535


_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


def check_program(path: Path, *, field: str) -> None:
    """Returns when a file has the outer form of a TorchScript program.

    Args:
        path: The file.
        field: Path for the error.

    Raises:
        InvalidArgumentError: It is no zip, another kind of zip, unpacks to far more than
            it holds, its code touches files, or a tensor claims values that are not there.
    """
    try:
        if _directory_bytes(path) > MAX_DIRECTORY_BYTES:
            raise InvalidArgumentError.of(field, f"{path.name} has an endless table of contents")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except _DAMAGE as exc:
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
    if any(
        entry.flag_bits & _ENCRYPTED
        or entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
        for entry in entries
    ):
        raise InvalidArgumentError.of(field, f"{path.name} is packed as torch packs nothing")
    try:
        found, claimed = _read(path)
    except _DAMAGE as exc:
        raise InvalidArgumentError.of(field, f"{path.name} is damaged: {exc}") from exc
    if found:
        raise InvalidArgumentError.of(
            field,
            f"the code in {path.name} calls {found}, which touches files; export the network "
            "alone, without loading or saving",
        )
    if claimed > _UNPACKED_RATIO * size + _UNPACKED_SLACK_BYTES:
        raise InvalidArgumentError.of(
            field,
            f"{path.name} has {size} bytes and its tensors claim {claimed} values; save them "
            "as they are, not expanded",
        )


def _read(path: Path) -> tuple[str, int]:
    """Operators in the code that touch files, or classes, and the values of all tensors."""
    found: set[bytes] = set()
    claimed, left = 0, _MAX_TEXT_BYTES
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            inner = entry.filename.partition("/")[2]
            if not (inner.startswith("code/") or inner in {"data.pkl", "constants.pkl"}):
                continue
            with archive.open(entry) as file:
                # With a bound: what the table of contents says of its size may be a lie.
                text = file.read(left + 1)
            left -= len(text)
            if left < 0:
                raise ValueError(f"more than {_MAX_TEXT_BYTES} bytes of code")
            if inner.startswith("code/"):
                found |= set(_TOUCHES_FILES.findall(text))
                # What lies beside the code is what users wrote, and is never compiled.
                if inner.endswith(".py"):
                    code = _TEXT.sub(b" ", text)
                    found |= {*_TOUCHES_FILES.findall(code), *_HIDDEN_CALL.findall(code)}
            else:
                claimed += claimed_values(text)
    calls = {re.sub(rb"[\s\\]", b"", call) for call in found}
    return ", ".join(sorted(name.decode(errors="replace") for name in calls)), claimed


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
