"""What the page takes of whoever reaches it, and for how long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from histill.core.errors import DeadlineExceededError, ResourceExhaustedError
from histill.web import events
from histill.web.guard import Guard
from histill.web.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


async def answered(method: str, **headers: str) -> int:
    """Status of a request to ``page.example`` with some headers."""

    async def fine(_: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    app = Guard(Starlette(routes=[Route("/", fine, methods=["GET", "POST"])]))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(b"host", b"page.example")]
    pairs += [(name.replace("_", "-").encode(), each.encode()) for name, each in headers.items()]
    scope = {
        "type": "http", "method": method, "path": "/", "query_string": b"", "headers": pairs,
        "http_version": "1.1", "scheme": "http", "server": ("page.example", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 200),
        ("POST", {"sec_fetch_site": "same-origin"}, 200),
        ("POST", {"origin": "http://page.example"}, 200),
        ("POST", {"sec_fetch_site": "cross-site"}, 403),
        ("POST", {"sec_fetch_site": "same-site"}, 403),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("GET", {"sec_fetch_site": "cross-site"}, 200),
    ],
)
async def test_another_sites_page_sends_nothing(
    method: str, headers: dict[str, str], status: int
) -> None:
    """A browser says where a form comes from; those of other sites are refused."""
    assert await answered(method, **headers) == status


async def test_a_form_that_does_not_come_is_given_up() -> None:
    """It gives its place to the next one."""
    uploads = Uploads(max_bytes=1 << 20, at_once=1, seconds=0.05)

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    kind = (b"content-type", b"multipart/form-data; boundary=x")
    for _ in range(2):
        request = Request({"type": "http", "method": "POST", "headers": [kind]}, never)
        with pytest.raises(DeadlineExceededError, match="HISTILL_WEB__UPLOAD_S"):
            async with uploads.read(request):
                pass


async def test_so_many_follow_jobs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to come back, and may once another one has left."""

    async def stream(_: object) -> AsyncGenerator[str]:
        while True:
            yield "event"

    monkeypatch.setattr(events, "stream", stream)
    watchers = events.Watchers(1)
    watchers.check()
    first = watchers.counted(lambda: None)  # type: ignore[arg-type,return-value] # of no service
    assert await anext(first) == "event"
    with pytest.raises(ResourceExhaustedError, match="MAX_WATCHERS"):
        watchers.check()
    await first.aclose()
    watchers.check()
