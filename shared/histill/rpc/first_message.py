"""The one message of a call that has one, waited for only so long.

grpc reads such a message before any handler runs, and so before anybody has asked who calls:
calls that never send theirs would hold a place each. Served as a stream of requests, the
handler runs as soon as the headers are there, and reads when it wants to.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from histill.core.errors import DeadlineExceededError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# A read is never cancelled: grpc's core writes to its memory until the call has ended, which
# also ends the read. Until then somebody must hold it.
_READING: set[asyncio.Task[Any]] = set()


async def first_message(messages: AsyncIterator[Any], limit_s: float) -> Any:
    """The first message of a stream.

    Args:
        messages: The stream.
        limit_s: How long it may take to come.

    Raises:
        DeadlineExceededError: It did not come in time.
        InvalidArgumentError: The caller sent none.
    """
    reading = asyncio.ensure_future(_next(messages))
    _READING.add(reading)
    reading.add_done_callback(_forget)
    await asyncio.wait({reading}, timeout=limit_s)
    if not reading.done():
        raise DeadlineExceededError(
            f"the request did not come within {limit_s:g} s of its headers; send both together"
        )
    found: list[Any] = reading.result()
    if not found:
        raise InvalidArgumentError.of("request", "is missing; send one message")
    return found[0]


async def _next(messages: AsyncIterator[Any]) -> list[Any]:
    async for message in messages:
        return [message]
    return []


def _forget(reading: asyncio.Task[Any]) -> None:
    _READING.discard(reading)
    if not reading.cancelled():
        # Asked for, so that asyncio does not complain when its call has ended meanwhile.
        reading.exception()
