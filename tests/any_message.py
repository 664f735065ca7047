"""Any message of a protobuf type, sensible or not, and any bytes in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message
    from hypothesis.strategies import DrawFn, SearchStrategy

    # Values by a field's name that get further than noise does.
    Hints = Mapping[str, Sequence[Any]]

_DEEPEST = 6
_MOST = 4  # of a repeated field
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_TEXTS = (
    "",
    " ",
    "\0",
    "a" * 64,
    "a" * 100_000,
    "é" * 20_000,
    "../../../etc/passwd",
    "a/b",
    "%s%n{0}",
    "\u202eabc\u0301",
    "😀" * 100,
    "null",
    "NaN",
    "-1",
    "1e400",
    "[" * 5_000,
    '{"a":' * 2_000,
)
_PLAIN = st.characters(exclude_categories=["Cs"])
_DATA = (b"", b"\0", b"\xff" * 1000, bytes(1 << 20), b"\x89PNG\r\n\x1a\n" + bytes(64))


def _whole(least: int, most: int) -> SearchStrategy[int]:
    edges = [each for each in (least, -1, 0, 1, 2, 3, 64, most) if least <= each <= most]
    return st.sampled_from(edges) | st.integers(least, most)


def _scalar(field: Any) -> SearchStrategy[Any]:
    kind = field.cpp_type
    if kind in _INTEGERS:
        return _whole(*_INTEGERS[kind])
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        known = [each.number for each in field.enum_type.values]
        return st.sampled_from([*known, max(known) + 1, -1, 2**31 - 1])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.sampled_from(_DATA) | st.binary(max_size=200)
    return {
        FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
        FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
        FieldDescriptor.CPPTYPE_FLOAT: st.floats(width=32),
        FieldDescriptor.CPPTYPE_STRING: st.sampled_from(_TEXTS) | st.text(_PLAIN, max_size=40),
    }[kind]


def _value(field: Any, hints: Hints, depth: int) -> SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, hints, depth=depth - 1)
    known = hints.get(field.name)
    if not known:
        return _scalar(field)
    return st.one_of(st.sampled_from(known), st.sampled_from(known), _scalar(field))


def _is_map(field: Any) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def _set(draw: DrawFn, message: Any, field: Any, hints: Hints, depth: int) -> None:
    """Gives one field a value."""
    if _is_map(field):
        _fill_map(draw, getattr(message, field.name), field, hints, depth)
    elif field.is_repeated:
        values = draw(st.lists(_value(field, hints, depth), max_size=_MOST))
        getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(draw(_value(field, hints, depth)))
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, draw(_value(field, hints, depth)))


def _fill_map(draw: DrawFn, found: Any, field: Any, hints: Hints, depth: int) -> None:
    entry = field.message_type.fields_by_name
    for key in draw(st.lists(_value(entry["key"], hints, depth), max_size=_MOST)):
        value = draw(_value(entry["value"], hints, depth))
        if entry["value"].message_type is not None:
            found[key].CopyFrom(value)
        else:
            found[key] = value


@st.composite
def messages(
    draw: DrawFn,
    descriptor: Descriptor,
    hints: Hints,
    *,
    depth: int = _DEEPEST,
    base: Message | None = None,
) -> Message:
    """A message of a type.

    Args:
        draw: Hypothesis's.
        descriptor: Of the type.
        hints: Values that mean something, by a field's name, for half of the draws.
        depth: Of messages in messages.
        base: Begins with these fields, of which a few are drawn again; else every field
            is drawn, or left unset.
    """
    made: Any = GetMessageClass(descriptor)()
    fields = [each for each in descriptor.fields if depth or each.message_type is None]
    if base is not None:
        made.CopyFrom(base)
        changed = draw(st.lists(st.sampled_from(fields), max_size=2)) if fields else []
    else:
        changed = [each for each in fields if draw(st.booleans())]
    field: Any
    for field in changed:
        if base is not None and _goes_in(made, field) and draw(st.booleans()):
            inner = getattr(made, field.name)
            again = messages(field.message_type, hints, depth=depth - 1, base=inner)
            inner.CopyFrom(draw(again))
            continue
        made.ClearField(field.name)
        _set(draw, made, field, hints, depth)
    finished: Message = made
    return finished


def _goes_in(message: Any, field: Any) -> bool:
    return field.message_type is not None and not field.is_repeated and message.HasField(field.name)


@st.composite
def payloads(draw: DrawFn, made: SearchStrategy[Message]) -> bytes:
    """A message's bytes: as they are, cut, changed in places, or nothing but noise."""
    data = draw(made).SerializeToString()
    change: Callable[[bytes], bytes] = draw(
        st.sampled_from([bytes, bytes, bytes, _cut(draw), _flipped(draw), _noise(draw)])
    )
    return change(data)


def _cut(draw: DrawFn) -> Callable[[bytes], bytes]:
    return lambda data: data[: draw(st.integers(0, max(0, len(data) - 1)))]


def _flipped(draw: DrawFn) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(draw(st.integers(1, 4)) if data else 0):
            changed[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(changed)

    return change


def _noise(draw: DrawFn) -> Callable[[bytes], bytes]:
    return lambda _: draw(st.binary(max_size=300))
