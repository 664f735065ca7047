"""Looks into a safetensors file without loading it: does its header tell the truth?

Format: https://github.com/huggingface/safetensors#format (8 bytes of length, a JSON
header, then the tensors' bytes).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

# Some forty thousand tensors. JSON takes thirty times its size in memory.
MAX_HEADER_BYTES = 4 << 20
# The product of millions of numbers would keep a core busy for hours.
_MAX_DIMENSIONS = 16
_MOST_OF_A_NAME = 200
_ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "BOOL": 1,
}  # fmt: skip


def count_parameters(path: Path, *, field: str) -> int:
    """Number of floating-point values in a safetensors file.

    Args:
        path: The file.
        field: Path for the error.

    Raises:
        InvalidArgumentError: The header is damaged, or tensors overlap, leave gaps,
            or lie about their size.
    """
    try:
        header, data_bytes = _read_header(path)
        tensors = [_tensor(name, entry) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, RecursionError) as exc:
        raise InvalidArgumentError.of(field, f"{path.name} is no safetensors file: {exc}") from exc
    expected = 0
    for start, end, _ in sorted(tensors):
        if start != expected:
            raise InvalidArgumentError.of(field, f"{path.name} has overlaps or gaps")
        expected = end
    if expected != data_bytes:
        raise InvalidArgumentError.of(
            field, f"{path.name} describes {expected} bytes of tensors and holds {data_bytes}"
        )
    return sum(count for _, _, count in tensors)


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    total = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if total < 8 or length > total - 8:  # noqa: PLR2004 - the format's
            raise ValueError("its header does not fit the file")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header has {length} bytes; {MAX_HEADER_BYTES} are the most")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise TypeError("its header is no JSON object")
    return header, total - 8 - length


def _tensor(name: str, entry: dict[str, Any]) -> tuple[int, int, int]:
    name = name[:_MOST_OF_A_NAME]
    shape, (start, end), dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not isinstance(shape, list):
        raise TypeError(f"{name} has no shape")
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"{name} has the unknown type {str(dtype)[:_MOST_OF_A_NAME]}")
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name} has {len(shape)} dimensions")
    if not all(type(n) is int and n >= 0 for n in (*shape, start, end)):
        raise ValueError(f"{name} has a negative or broken shape or offset")
    count = math.prod(shape)
    if end - start != count * _ITEM_BYTES[dtype]:
        raise ValueError(f"{name} has {end - start} bytes for a shape of {shape}")
    return start, end, count if dtype.startswith(("F", "BF")) else 0
