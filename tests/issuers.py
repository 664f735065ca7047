"""An OpenID Connect issuer for tests: keys, tokens, and a real HTTP server of both documents."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE = "histill"
_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_RSA_OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private_key(algorithm: str, *, other: bool = False) -> Any:
    """A private key for an algorithm; RSA ones are made once, since that takes long."""
    if algorithm.startswith("ES"):
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return _RSA_OTHER if other else _RSA


def public_jwk(key: Any, algorithm: str, kid: str, *, named: bool = True) -> dict[str, Any]:
    """The public half as a JSON Web Key."""
    algorithms: Any = get_default_algorithms()
    jwk = json.loads(algorithms[algorithm].to_jwk(key.public_key()))
    jwk |= {"kid": kid, "use": "sig"}
    return {**jwk, "alg": algorithm} if named else jwk


@dataclass
class Issuer:
    """Signs tokens and publishes keys.

    Attributes:
        url: Its name.
        keys: Private keys and their algorithms, by id; the last one signs.
        fetches: How often its keys were asked for.
        away: Whether it answers with an error.
    """

    url: str = "https://issuer.example"
    keys: dict[str, tuple[Any, str]] = field(default_factory=dict)
    fetches: int = 0
    away: bool = False

    def rotate(self, kid: str, algorithm: str = "RS256", *, other: bool = False) -> None:
        """Replaces every key by a new one."""
        self.keys = {kid: (private_key(algorithm, other=other), algorithm)}

    def jwks(self) -> dict[str, Any]:
        return {"keys": [public_jwk(key, alg, kid) for kid, (key, alg) in self.keys.items()]}

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "grace",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "roles": ["staff"],
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, *, headers: dict[str, Any] | None = None, **changes: Any) -> str:
        """A token of the newest key; a claim of ``None`` is left out."""
        kid, (key, algorithm) = list(self.keys.items())[-1]
        return jwt.encode(
            self.claims(**changes), key, algorithm, headers={"kid": kid, **(headers or {})}
        )


@contextmanager
def serving(issuer: Issuer) -> Iterator[Issuer]:
    """The issuer over HTTP, on a port of its own, which becomes its name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.fetches += self.path == "/keys"
            documents: dict[str, Any] = {
                "/.well-known/openid-configuration": {
                    "issuer": issuer.url,
                    "jwks_uri": f"{issuer.url}/keys",
                },
                "/keys": issuer.jwks(),
            }
            found = None if issuer.away else documents.get(self.path)
            self.send_response(200 if found else 503)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
