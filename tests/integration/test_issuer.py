"""An issuer over HTTP and HTTPS, and everything that it could answer instead of keys."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from certificates import files_in
from free_ports import free_port
from histill.core.errors import UnavailableError
from histill.core.service_settings import OidcSettings
from histill.rpc.issuer import fetch_keys
from issuers import Issuer, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from certificates import Files

DISCOVERY = "/.well-known/openid-configuration"


def settings(issuer: str, **changes: Any) -> OidcSettings:
    given = {"issuer": issuer, "audience": "a", "roles": {"staff": "viewer"}, "timeout_s": 1}
    return OidcSettings.model_validate(given | changes)


@contextmanager
def answering(
    answers: dict[str, tuple[int, bytes]], *, tls: Files | None = None
) -> Iterator[tuple[str, list[str]]]:
    """A server of fixed answers; yields its address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            code, body = answers.get(self.path, (404, b""))
            self.send_response(code)
            if code == 302:
                self.send_header("Location", "/keys")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_keys_are_found_by_discovery_or_at_a_given_address() -> None:
    """Both ways lead to the same keys."""
    issuer = Issuer()
    issuer.rotate("k1")
    with serving(issuer):
        found = fetch_keys(settings(issuer.url))
        assert [key["kid"] for key in found] == ["k1"]
        assert "d" not in found[0]
        assert fetch_keys(settings(issuer.url, jwks_url=f"{issuer.url}/keys")) == found


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((500, b""), "status 500"),
        ((302, b""), "status 302"),
        ((200, b"<html>"), "JSON object"),
        ((200, b"[]"), "JSON object"),
        ((200, b'{"keys": 1}'), "holds no keys"),
        ((200, json.dumps({"keys": ["x" * (1 << 20)]}).encode()), "1 MiB"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_anything_but_keys_is_no_answer(answer: tuple[int, bytes], words: str) -> None:
    """Errors, redirects, pages and floods; nothing is followed."""
    with answering({"/jwks": answer}) as (url, asked):
        with pytest.raises(UnavailableError, match=words):
            fetch_keys(settings(url, jwks_url=f"{url}/jwks"))
        assert asked == ["/jwks"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": "https://other.example"}, "says that it is"),
        ({"jwks_uri": "ftp://other.example/keys"}, "as safe"),
        ({"jwks_uri": ""}, "as safe"),
        ({"jwks_uri": None}, "as safe"),
    ],
    ids=str,
)
def test_a_discovery_that_leads_elsewhere_is_not_followed(
    changes: dict[str, Any], words: str
) -> None:
    """The document must be the issuer's own and name keys that are fetched as safely."""
    answers: dict[str, tuple[int, bytes]] = {}
    with answering(answers) as (url, _):
        document = {"issuer": url, "jwks_uri": f"{url}/keys"} | changes
        answers[DISCOVERY] = (200, json.dumps(document).encode())
        with pytest.raises(UnavailableError, match=words):
            fetch_keys(settings(url))


def test_an_issuer_that_hangs_is_given_up() -> None:
    """After the timeout, whether it listens or not."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="does not answer"):
            fetch_keys(settings(f"http://127.0.0.1:{silent.getsockname()[1]}"))
        assert time.monotonic() - started < 4
    with pytest.raises(UnavailableError, match="does not answer"):
        fetch_keys(settings(f"http://127.0.0.1:{free_port()}"))


def test_the_issuers_certificate_is_checked(tmp_path: Path) -> None:
    """An unknown authority is refused; one that is named in the settings is taken."""
    files = files_in(tmp_path, trustme.CA())
    keys = (200, b'{"keys": []}')
    with answering({"/jwks": keys}, tls=files) as (url, _):
        address = f"{url}/jwks"
        with pytest.raises(UnavailableError, match="does not answer"):
            fetch_keys(settings(url, jwks_url=address))
        assert fetch_keys(settings(url, jwks_url=address, ca_file=str(files.ca))) == []
