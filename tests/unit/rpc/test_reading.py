"""Bytes that are no message, on their way to a handler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.core.errors import InvalidArgumentError
from histill.rpc.reading import Unreadable, lenient, readable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARSE = lenient(pb.GetModelRequest.FromString)
SENT = pb.GetModelRequest(reference="m")


def test_a_message_passes() -> None:
    """What parses is handed on as it is."""
    assert readable(PARSE(SENT.SerializeToString())) == SENT


def test_what_is_no_message_is_refused_later() -> None:
    """Parsing does not fail, and its words stay inside; whoever counts or looks on finds little."""
    found = PARSE(b"\xff\xff")
    assert found == Unreadable(2)
    assert found.ByteSize() == 2
    assert not found.DESCRIPTOR.fields_by_name
    with pytest.raises(InvalidArgumentError, match=r"^request: is no message of this method"):
        readable(found)


async def test_a_stream_is_refused_where_it_breaks() -> None:
    """The messages before it are read."""

    async def sent() -> AsyncIterator[object]:
        for data in (SENT.SerializeToString(), b"\xff"):
            yield PARSE(data)

    requests = readable(sent())
    assert await anext(requests) == SENT
    with pytest.raises(InvalidArgumentError):
        await anext(requests)
