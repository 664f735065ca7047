"""What the page takes of whoever reaches it, and for how long."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import histill.web.guard
from histill.core.errors import ResourceExhaustedError, UnauthenticatedError
from histill.web import events
from histill.web.attempts import Attempts
from histill.web.guard import VIEWER_STYLE, Guard
from histill.web.unread import Unread
from histill.web.upload import Places

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

STATIC = Path(histill.web.guard.__file__).parent / "static"


async def answered(method: str, path: str = "/", **headers: str) -> int:
    """Status of a request to ``page.example`` with some headers."""

    async def fine(_: Request) -> PlainTextResponse:
        return PlainTextResponse("fine")

    routes = [Route(each, fine, methods=["GET", "POST"]) for each in ("/", "/api/jobs")]
    app = Guard(Starlette(routes=routes))
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(b"host", b"page.example")]
    pairs += [(name.replace("_", "-").encode(), each.encode()) for name, each in headers.items()]
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "headers": pairs,
        "http_version": "1.1", "scheme": "http", "server": ("page.example", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/", {}, 200),
        ("POST", "/", {"sec_fetch_site": "same-origin"}, 200),
        ("POST", "/", {"origin": "http://page.example"}, 200),
        ("POST", "/", {"sec_fetch_site": "cross-site"}, 403),
        ("POST", "/", {"sec_fetch_site": "same-site"}, 403),
        ("POST", "/", {"origin": "http://evil.example"}, 403),
        ("POST", "/", {"origin": "null"}, 403),
        ("POST", "/", {"origin": "http://[page.example"}, 403),
        ("GET", "/", {"sec_fetch_site": "cross-site"}, 200),
        ("GET", "/api/jobs", {"sec_fetch_site": "cross-site"}, 403),
        ("GET", "/api/jobs", {"sec_fetch_site": "same-site"}, 403),
        ("GET", "/api/jobs", {"sec_fetch_site": "none"}, 200),
        ("GET", "/api/jobs", {"origin": "http://evil.example"}, 200),
    ],
)
async def test_another_sites_page_sends_and_reads_nothing(
    method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """A browser says where a request comes from; those of other sites are refused."""
    assert await answered(method, path, **headers) == status


def test_one_element_of_style_is_let_in() -> None:
    """The one that the viewer makes, to the letter."""
    viewer = (STATIC / "vendor" / "openseadragon.min.js").read_text()
    made = re.findall(r'createElement\("style"\).{0,99}?\.textContent="(.*?)"', viewer)
    assert viewer.count('createElement("style")') == len(made) == 1
    digest = base64.b64encode(hashlib.sha256(made[0].encode()).digest()).decode()
    assert f"sha256-{digest}" == VIEWER_STYLE


async def test_so_many_follow_jobs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to come back, and may once another one has left."""

    async def stream(*_: object) -> AsyncGenerator[str]:
        while True:
            yield "event"

    monkeypatch.setattr(events, "stream", stream)
    watchers = events.Watchers(1)
    watchers.check()
    first = watchers.counted(lambda: None, lambda exc: ResourceExhaustedError(str(exc)))
    assert await anext(first) == "event"
    with pytest.raises(ResourceExhaustedError, match="MAX_WATCHERS"):
        watchers.check()
    await first.aclose()
    watchers.check()


def test_the_last_place_is_for_those_who_have_none() -> None:
    """However many images one caller sends, another one is served."""
    places = Places(3)
    with places.one("a"), places.one("a"):
        with pytest.raises(ResourceExhaustedError, match="your other images"), places.one("a"):
            pass
        with places.one("b"):
            for caller in "abc":
                with (
                    pytest.raises(ResourceExhaustedError, match="other images"),
                    places.one(caller),
                ):
                    pass
        with places.one("c"):
            pass
    with places.one("a"), places.one("a"):
        pass
    with Places(1).one("a"):
        pass


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wrong(attempts: Attempts, address: str) -> None:
    with pytest.raises(UnauthenticatedError), attempts.one(address):
        raise UnauthenticatedError("no")


def test_wrong_keys_are_counted_by_address() -> None:
    """Right ones are not; time gives tries back."""
    clock = Clock()
    attempts = Attempts(2, clock)
    for _ in range(10):
        with attempts.one("a"):
            pass
    wrong(attempts, "a")
    wrong(attempts, "a")
    with pytest.raises(ResourceExhaustedError, match="too many wrong keys") as refused:
        wrong(attempts, "a")
    assert refused.value.retry_after_s == pytest.approx(30)
    wrong(attempts, "b")
    clock.now = 31
    wrong(attempts, "a")


def test_wrong_keys_on_their_way_are_counted_too() -> None:
    """Many at once are no way around."""
    attempts = Attempts(12)
    with attempts.one("a"), attempts.one("a"), attempts.one("a"), attempts.one("a"):
        with pytest.raises(ResourceExhaustedError, match="one key at a time"):
            wrong(attempts, "a")
        wrong(attempts, "b")
    wrong(attempts, "a")


def test_keys_may_go_uncounted() -> None:
    """With 0 in the settings."""
    attempts = Attempts(0)
    for _ in range(50):
        wrong(attempts, "a")


class Wire:
    """A request of some pieces, and what is answered."""

    def __init__(self, pieces: int, *, waits: bool = False) -> None:
        self.left = pieces
        self.waits = waits
        self.sent: list[Any] = []

    async def receive(self) -> dict[str, Any]:
        if self.waits:
            await asyncio.sleep(60)
        self.left -= 1
        return {"type": "http.request", "body": bytes(100), "more_body": self.left > 0}

    async def send(self, message: Any) -> None:
        self.sent.append({**message, "left": self.left})


async def refused(wire: Wire, *further: tuple[bytes, bytes], reads: int = 1) -> list[Any]:
    """What is sent for a request that is refused after some pieces of it."""

    async def app(_: Any, receive: Any, send: Any) -> None:
        for _each in range(reads):
            await receive()
        await PlainTextResponse("no", 404)({"type": "http"}, receive, send)

    headers = [(b"content-length", b"1000"), *further]
    await Unread(app, most=500, seconds=0.2)(
        {"type": "http", "headers": headers}, wire.receive, wire.send
    )
    return wire.sent


async def test_the_rest_of_a_request_is_read_after_its_refusal() -> None:
    """The whole answer is on its way first, and the connection ends with it."""
    start, body, end = await refused(Wire(4))
    assert (b"connection", b"close") in start["headers"]
    assert (body["body"], body["more_body"], body["left"]) == (b"no", True, 3)
    assert (end["body"], end["more_body"], end["left"]) == (b"", False, 0)


@pytest.mark.parametrize("wire", [Wire(100), Wire(100, waits=True)])
async def test_only_so_much_of_it_is_read(wire: Wire) -> None:
    """Neither without end nor for ever."""
    *_, end = await refused(wire, reads=0)
    assert not end.get("more_body")
    assert wire.left >= 95


async def test_who_asks_before_sending_sends_nothing() -> None:
    """An answer instead of 100 Continue is all there is."""
    wire = Wire(4)
    start, body = await refused(wire, (b"expect", b"100-continue"), reads=0)
    assert (b"connection", b"close") in start["headers"]
    assert not body.get("more_body")
    assert wire.left == 4


async def test_a_request_that_was_read_keeps_its_connection() -> None:
    """As any other."""
    start, body = await refused(Wire(1))
    assert (b"connection", b"close") not in start["headers"]
    assert not body.get("more_body")
