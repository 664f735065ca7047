"""Bytes that are no message: refused as any wrong request is, and after its caller is known.

grpc parses a request before a handler or an interceptor sees anything, and answers bytes that
do not parse with UNKNOWN and the parser's own words. Here parsing never fails: it hands on
something unreadable, which is refused where other errors are translated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from google.protobuf.descriptor import Descriptor


@dataclass(frozen=True)
class Unreadable:
    """What came in place of a message.

    Whoever looks at what a request names, before it is refused, finds a message without fields.

    Attributes:
        size: In bytes.
    """

    DESCRIPTOR: ClassVar[Descriptor] = Empty.DESCRIPTOR
    size: int

    def ByteSize(self) -> int:  # noqa: N802 - as messages have it
        """Its size, for those who count."""
        return self.size


def lenient(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A parser that hands on an ``Unreadable`` instead of failing."""

    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return Unreadable(len(data))

    return parsed


def readable(request: Any) -> Any:
    """A request, or a stream of them, of which each is a message.

    Raises:
        InvalidArgumentError: It is not; of a stream, when its turn comes.
    """
    if hasattr(request, "__aiter__"):
        return _each(request)
    return _checked(request)


async def _each(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


def _checked(request: Any) -> Any:
    if isinstance(request, Unreadable):
        raise InvalidArgumentError.of(
            "request", "is no message of this method; make it with the API's own definitions"
        )
    return request
