"""Small bodies of requests, read within a bound."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from histill.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from starlette.requests import Request

_SECONDS = 20.0


async def text_of(request: Request, *, most: int) -> str:
    """The body of a request as text.

    Args:
        request: Whose body has not been read.
        most: Bytes that it may have.

    Raises:
        InvalidArgumentError: It is not UTF-8.
        ResourceExhaustedError: It is longer.
        DeadlineExceededError: It does not come in time.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise ResourceExhaustedError(f"the text has more than {most} bytes")
    except TimeoutError:
        raise DeadlineExceededError(f"the text did not come within {_SECONDS:g} s") from None
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidArgumentError.of("body", f"is not UTF-8 at byte {exc.start}") from None


async def json_object(request: Request, *, most: int) -> dict[str, Any]:
    """The JSON object that a request's body is.

    Raises:
        InvalidArgumentError: It is none.
        HistillError: As ``text_of``.
    """
    try:
        found = json.loads(await text_of(request, most=most))
    except (ValueError, RecursionError) as exc:
        raise InvalidArgumentError.of("body", f"is not JSON: {exc}") from None
    if not isinstance(found, dict):
        raise InvalidArgumentError.of("body", "must be a JSON object")
    return found
