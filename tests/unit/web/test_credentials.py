"""Which credential counts, what is kept of it, and what is asked of the services with it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from starlette.requests import Request
from starlette.responses import Response

from histill.core.errors import (
    DeadlineExceededError,
    HistillError,
    InvalidArgumentError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from histill.rpc.statuses import to_status
from histill.web.backends import Service
from histill.web.credentials import STRANGER, Credential, Credentials, Source
from histill.web.settings import WebPart

KEY = Credential("key", Source.COOKIE)


def request(**headers: str) -> Request:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "GET", "headers": pairs})


def credentials(**settings: Any) -> Credentials:
    return Credentials(WebPart.model_validate({"secure_cookies": False} | settings))


@pytest.mark.parametrize(
    ("headers", "token", "source"),
    [
        ({"authorization": "Bearer  one "}, "one", Source.HEADER),
        ({"authorization": "bEARER one", "cookie": "histill=two"}, "one", Source.HEADER),
        ({"authorization": "Basic one", "cookie": "histill=two"}, "two", Source.COOKIE),
        ({"cookie": "other=1; histill=a%3Db%25"}, "a=b%", Source.COOKIE),
        ({"cookie": "__Host-histill=two"}, "guest", Source.GUEST),
        ({"cookie": "histill="}, "guest", Source.GUEST),
        ({}, "guest", Source.GUEST),
    ],
)
def test_which_credential_counts(headers: dict[str, str], token: str, source: Source) -> None:
    """A bearer token, then the cookie, then the guest's key."""
    found = credentials(guest_key="guest").of(request(**headers))
    assert (found.token, found.source) == (token, source)
    assert token not in repr(found)


def test_nobody_is_a_guest_where_there_are_none() -> None:
    """Then nothing is sent."""
    assert credentials().of(request()) == STRANGER
    assert STRANGER.metadata == ()


@pytest.mark.parametrize("value", ["", " ", "x" * 7001, "schl\xfcssel", "a\tb"])
def test_what_cannot_be_sent_is_refused(value: str) -> None:
    """Before it meets gRPC, which would not say what is wrong."""
    with pytest.raises(InvalidArgumentError, match="authorization"):
        credentials().of(request(authorization=f"Bearer {value}"))


@pytest.mark.parametrize("token", ["hst_0aZ", "e-y_J.x.y", 'a b;c,"d\\e=%'])
def test_a_kept_token_comes_back(token: str) -> None:
    """Whatever letters it has."""
    found = credentials()
    response = Response()
    found.keep(response, token)
    cookie = response.headers["set-cookie"].partition(";")[0]
    assert found.of(request(cookie=cookie)) == Credential(token, Source.COOKIE)


def test_a_token_that_fits_no_cookie_is_refused() -> None:
    """Browsers would drop it without a word; what helps is said."""
    response = Response()
    credentials().keep(response, "x" * 4089)
    with pytest.raises(InvalidArgumentError, match="is 1 characters longer than a browser keeps"):
        credentials().keep(response, "x" * 4090)


@pytest.mark.parametrize("proxies", [("*",), ("10.0.0.1", "10.244.0.0/16", "fd00::/8")])
def test_proxies_have_addresses(proxies: tuple[str, ...]) -> None:
    """Each of them, or all there are."""
    assert WebPart(trusted_proxies=proxies).trusted_proxies == proxies


@pytest.mark.parametrize("proxy", ["*", "10.244.0.1/16", "proxy.example", ""])
def test_a_proxy_that_could_never_be_met_is_refused(proxy: str) -> None:
    """Else whoever comes through it would count as one address, and nobody would know."""
    with pytest.raises(ValueError, match="trusted_proxies"):
        WebPart(trusted_proxies=("10.0.0.1", proxy))


def failure(code: grpc.StatusCode, words: str, told: HistillError | None = None) -> Any:
    empty = grpc.aio.Metadata()
    trailers = grpc.aio.Metadata()
    if told:
        trailers.add("grpc-status-details-bin", to_status(told).SerializeToString())
    return grpc.aio.AioRpcError(code, empty, trailers, words)


class Stub:
    """A service that fails as it is told to."""

    def __init__(self, error: grpc.RpcError) -> None:
        self.error = error
        self.calls: list[Any] = []

    async def Ask(self, _: object, **how: Any) -> None:  # noqa: N802
        self.calls.append(how)
        raise self.error


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def service(stub: Stub, clock: Any = None) -> Service:
    return Service("registry", stub, timeout_s=9, clock=clock or Clock())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            failure(grpc.StatusCode.UNAVAILABLE, "ipv4:10.0.0.1:50052: connection refused"),
            UnavailableError,
            "the registry does not answer; try again in a moment",
        ),
        (
            failure(grpc.StatusCode.UNAVAILABLE, "S3 is away", UnavailableError("S3 is away")),
            UnavailableError,
            "S3 is away",
        ),
        (
            failure(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
            DeadlineExceededError,
            "the registry did not answer in time",
        ),
        (
            failure(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
            HistillError,
            "the registry is of another version and does not know this",
        ),
        (
            failure(
                grpc.StatusCode.PERMISSION_DENIED,
                "/a.B/C needs the role admin; yours is viewer",
                PermissionDeniedError(""),
            ),
            PermissionDeniedError,
            "this needs the role admin; yours is viewer",
        ),
    ],
)
async def test_errors_in_words_of_the_page(
    error: grpc.RpcError, kind: type[HistillError], words: str
) -> None:
    """No addresses and no names of methods."""
    with pytest.raises(kind) as raised:
        await service(Stub(error)).ask("Ask", Empty(), KEY)
    assert str(raised.value) == words


async def test_each_call_has_its_credential_and_its_time() -> None:
    """At most the settings' time."""
    stub = Stub(failure(grpc.StatusCode.NOT_FOUND, "no"))
    for timeout_s, expected in ((None, 9), (3, 3), (99, 9)):
        with pytest.raises(HistillError):
            await service(stub).ask("Ask", Empty(), KEY, timeout_s=timeout_s)
        assert stub.calls[-1] == {
            "metadata": (("authorization", "Bearer key"),),
            "timeout": expected,
        }


async def test_strangers_are_refused_without_asking_each_time() -> None:
    """The service would count each as a wrong key of the page's own address."""
    clock = Clock()
    stub = Stub(failure(grpc.StatusCode.UNAUTHENTICATED, "send an API key in the metadata"))
    asked = service(stub, clock)
    for seconds, calls in ((0, 1), (14, 1), (16, 2), (17, 2)):
        clock.now = 100.0 + seconds
        with pytest.raises(UnauthenticatedError, match="sign in with an API key"):
            await asked.ask("Ask", Empty(), STRANGER)
        assert len(stub.calls) == calls
    with pytest.raises(UnauthenticatedError, match="send an API key"):
        await asked.ask("Ask", Empty(), KEY)
    # Too many wrong keys came from the page: a stranger is still a stranger.
    stub.error = failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many wrong credentials")
    clock.now = 135
    with pytest.raises(UnauthenticatedError, match="sign in"):
        await asked.ask("Ask", Empty(), STRANGER)
