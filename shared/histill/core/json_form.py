"""Messages as JSON values, the same for the command line and the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from google.protobuf.message import Message

# 64-bit whole numbers, which protobuf's own JSON writes as strings.
_NUMBERS = frozenset(
    {
        "bytes", "objects", "objects_listed", "objects_read", "parameters", "pixels", "redis_keys",
        "size_bytes",
    }
)  # fmt: skip


def as_dict(message: Message) -> dict[str, Any]:
    """A message with its own field names, defaults written out, numbers as numbers."""
    found: dict[str, Any] = _numbered(
        MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    )
    return found


def _numbered(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _numbered(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbered(each) for each in value]
    return int(value) if name in _NUMBERS else value
