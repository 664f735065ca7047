"""Looks at an ONNX file from outside: can it only compute? It is never loaded here.

A runtime would read whatever files a model names, and would run its loops for as long as it
says. The protobuf is walked by hand, with bounds, since what parses it takes many times its
size in memory. Fields: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Data = bytes | mmap.mmap

_MAX_FIELDS = 1_000_000  # a second's walk; exported networks have some ten thousand
_MAX_NODES = 50_000
_MAX_BYTES = (2 << 30) - 1  # protobuf's own
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_VARINT_BYTES = 10
_DOMAINS = frozenset({b"", b"ai.onnx"})
_ENDLESS = frozenset({b"Loop", b"If", b"Scan", b"SequenceMap"})

# Numbers of fields, by message: those that hold further messages, those that hold plain
# values, and those that are refused, with why.
_MODEL = "model"
_GRAPH = "graph"
_NODE = "node"
_ATTRIBUTE = "attribute"
_TENSOR = "tensor"
_SPARSE = "sparse tensor"
_INSIDE = {
    _MODEL: {7: _GRAPH},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 10: _TENSOR, 22: _SPARSE, 23: _SPARSE},
    _TENSOR: {},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
_PLAIN = {
    _MODEL: {1, 2, 3, 4, 5, 6, 8, 14, 26},
    _GRAPH: {2, 10, 11, 12, 13, 14, 16},
    _NODE: {1, 2, 3, 4, 6, 7, 8, 9, 10},
    _ATTRIBUTE: {1, 2, 3, 4, 7, 8, 9, 13, 14, 15, 20, 21},
    _TENSOR: {1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16},
    _SPARSE: {3},
}
_REFUSED = {
    (_MODEL, 20): "holds a training graph",
    (_MODEL, 25): "defines functions",
    (_ATTRIBUTE, 6): "has a graph within a node",
    (_ATTRIBUTE, 11): "has a graph within a node",
    (_TENSOR, 3): "has a tensor in segments",
    (_TENSOR, 13): "keeps a tensor in another file",
}


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    value: int
    start: int
    end: int


@dataclass
class _Left:
    """What may still come."""

    fields: int = _MAX_FIELDS
    nodes: int = _MAX_NODES


def check_onnx(path: Path, *, field: str) -> None:
    """Returns when an ONNX file only computes, and holds all that it computes with.

    Args:
        path: The file.
        field: Path for the error.

    Raises:
        InvalidArgumentError: It is damaged, names other files, has loops, branches, functions
            or operators of others, or more nodes than any network.
    """
    if not 0 < path.stat().st_size <= _MAX_BYTES:
        raise InvalidArgumentError.of(field, f"{path.name} is empty, or beyond 2 GiB")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        wrong = what_is_wrong(data)
    if wrong:
        raise InvalidArgumentError.of(
            field,
            f"{path.name} {wrong}, which is not taken; export the network alone, as one file "
            "without control flow",
        )


def what_is_wrong(data: Data) -> str:
    """Why an ONNX file is not taken, as what follows its name; empty when it is."""
    # Runtimes look at the bytes to tell formats; this is the mark of another one.
    if data[4:8] == b"ORTM":
        return "is in the format of ONNX Runtime"
    try:
        _walk(data, 0, len(data), _MODEL, _Left())
    except _RefusedError as exc:
        return str(exc)
    return ""


class _RefusedError(Exception):
    pass


def _walk(data: Data, start: int, end: int, message: str, left: _Left) -> None:
    if message == _NODE:
        left.nodes -= 1
        if left.nodes < 0:
            raise _RefusedError(f"has more than {_MAX_NODES} nodes")
    for field in _fields(data, start, end, left):
        if words := _REFUSED.get((message, field.number)):
            raise _RefusedError(words)
        inside = _INSIDE[message].get(field.number)
        if inside is not None:
            if field.kind != _BYTES:
                raise _RefusedError("is no ONNX, or damaged")
            _walk(data, field.start, field.end, inside, left)
        elif field.number not in _PLAIN[message]:
            raise _RefusedError(f"has an unknown field {field.number} in a {message}")
        else:
            _check_plain(data, message, field)


def _check_plain(data: Data, message: str, field: _Field) -> None:
    # Of a field that comes twice the last counts: each of them must do.
    if message == _TENSOR and field.number == 14 and (field.kind != _VARINT or field.value):  # noqa: PLR2004 - data_location
        raise _RefusedError("keeps a tensor in another file")
    if message != _NODE or field.number not in {4, 7}:
        return
    if field.kind != _BYTES:
        raise _RefusedError("is no ONNX, or damaged")
    text = bytes(data[field.start : min(field.end, field.start + 100)])
    if field.number == 4 and text in _ENDLESS:  # noqa: PLR2004 - op_type
        raise _RefusedError(f"has the operator {text.decode()}")
    if field.number == 7 and text not in _DOMAINS:  # noqa: PLR2004 - domain
        raise _RefusedError(f"has operators of {text.decode(errors='replace')}")


def _fields(data: Data, at: int, end: int, left: _Left) -> Iterator[_Field]:
    while at < end:
        left.fields -= 1
        if left.fields < 0:
            raise _RefusedError(f"has more than {_MAX_FIELDS} values outside of its tensors' bytes")
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        value, start = 0, at
        if kind == _VARINT:
            value, at = _varint(data, at, end)
        elif kind == _BYTES:
            size, start = _varint(data, at, end)
            at = start + size
        elif kind in {_FIXED32, _FIXED64}:
            at += 4 if kind == _FIXED32 else 8
        else:
            raise _RefusedError("is no ONNX, or damaged")
        if at > end or not number:
            raise _RefusedError("is no ONNX, or damaged")
        yield _Field(number, kind, value, start, at)


def _varint(data: Data, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(_VARINT_BYTES):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:  # noqa: PLR2004 - the last one
            # As protobuf does: 64 bits of a value, of a tag's 32.
            return value & (1 << 64) - 1, at
    raise _RefusedError("is no ONNX, or damaged")
