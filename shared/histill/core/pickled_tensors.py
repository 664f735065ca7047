"""How large the tensors are that a TorchScript program describes, read without unpickling.

A program keeps what it holds in ``data.pkl``: opcodes for a machine with a stack. Here they
are only listed, by ``pickletools``, and of all values none but whole numbers, tuples and names
are followed: enough to see the sizes with which tensors are rebuilt. A tensor may say any size
over a storage of one value, when its strides are 0; whoever copies it needs memory for all.
"""

from __future__ import annotations

import math
import pickletools
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pickletools import OpcodeInfo

MAX_BYTES = 4 << 20
_INTEGERS = {"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUTS, _GETS = {"BINPUT", "LONG_BINPUT", "PUT"}, {"BINGET", "LONG_BINGET", "GET"}
_UNKNOWN = {"DUP", "INST", "MEMOIZE", "OBJ", "STACK_GLOBAL"}
_MARK = object()
_MOST_DIMENSIONS = 64
_SIZE = 2  # its place among the arguments: storage, offset, size, strides


class _Name(NamedTuple):
    """Of a function or class; never looked up."""

    name: str


def claimed_values(pickled: bytes) -> int:
    """Values of all tensors together, as their sizes say, whatever they are stored in.

    Args:
        pickled: A ``data.pkl``, at most 4 MiB.

    Raises:
        ValueError: It is damaged, too long, or written as torch writes nothing.
    """
    if len(pickled) > MAX_BYTES:
        raise ValueError(f"{len(pickled)} bytes describe its tensors; {MAX_BYTES} are the most")
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(pickled):
            machine.step(opcode, argument)
    except (IndexError, KeyError, OverflowError) as exc:
        raise ValueError("what describes its tensors is damaged") from exc
    return machine.claimed


class _Machine:
    """Follows numbers, tuples and names; all else is ``None``."""

    def __init__(self) -> None:
        self.claimed = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: OpcodeInfo, argument: Any) -> None:
        name, stack = opcode.name, self._stack
        if name in _INTEGERS:
            stack.append(argument)
        elif name == "GLOBAL":
            stack.append(_Name(argument))
        elif name in _TUPLES:
            stack.append(tuple(self._popped(_TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _PUTS | _GETS:
            self._remember(name, int(argument))
        elif name == "REDUCE":
            function, arguments = self._popped(2)
            self._called(function, arguments)
            stack.append(None)
        elif name in _UNKNOWN:
            raise ValueError(f"torch writes no {name}")
        else:
            self._other(opcode)

    def _remember(self, name: str, key: int) -> None:
        if name in _PUTS:
            self._memo[key] = self._stack[-1]
        else:
            self._stack.append(self._memo[key])

    def _other(self, opcode: OpcodeInfo) -> None:
        before = [each.name for each in opcode.stack_before]
        if "mark" in before:
            self._to_mark()
            before = before[: before.index("mark")]
        self._popped(len(before))
        self._stack.extend([None] * len(opcode.stack_after))

    def _popped(self, number: int) -> list[Any]:
        if number > len(self._stack):
            raise IndexError(number)
        start = len(self._stack) - number
        found = self._stack[start:]
        del self._stack[start:]
        return found

    def _to_mark(self) -> list[Any]:
        found = []
        while (value := self._stack.pop()) is not _MARK:
            found.append(value)
        return found[::-1]

    def _called(self, function: Any, arguments: Any) -> None:
        name = function.name if isinstance(function, _Name) else ""
        if not ("_rebuild" in name and name.endswith(("tensor", "tensor_v2"))):
            return
        if "sparse" in name:
            raise ValueError("it holds sparse tensors, which are not taken")
        size = arguments[_SIZE] if isinstance(arguments, tuple) else None
        if (
            not isinstance(size, tuple)
            or len(size) > _MOST_DIMENSIONS
            or not all(isinstance(side, int) and 0 <= side < 1 << 63 for side in size)
        ):
            raise ValueError("a tensor in it has no size")
        self.claimed += math.prod(size)
