"""The part of a Kubernetes API server that holds Secrets, over real HTTPS, for tests.

As the real one does: bearer tokens, Roles that name resources and verbs, merge patches, and a
resourceVersion that a patch may demand (409 when it has changed).
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = "a-service-account-token"
NAMESPACE = "ward"


@dataclass
class Api:
    """What the server holds and does.

    Attributes:
        account: Folder as a pod has it: token, ca.crt and namespace.
        port: Where it listens.
        secrets: Objects, by namespace and name.
        allowed: What the service account may do: verb, namespace and name.
        failures: Statuses that the next requests are answered with.
        on_read: Called when a Secret has been read, before the answer leaves.
        requests: Method and path of each.
    """

    account: Path
    port: int = 0
    secrets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    allowed: set[tuple[str, str, str]] = field(default_factory=set)
    failures: list[int] = field(default_factory=list)
    on_read: Callable[[], object] = lambda: None
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, *, allow: bool = True, **values: str) -> None:
        """An object with some keys, which the service account may read and patch."""
        data = {key.replace("_", "-"): _coded(value) for key, value in values.items()}
        metadata = {"name": name, "namespace": NAMESPACE, "resourceVersion": "1"}
        # The API leaves data out where there is none.
        self.secrets[NAMESPACE, name] = {"kind": "Secret", "metadata": metadata} | (
            {"data": data} if data else {}
        )
        if allow:
            self.allowed |= {(verb, NAMESPACE, name) for verb in ("get", "patch")}

    def put(self, name: str, key: str, value: str | None) -> None:
        """Changes a key by hand."""
        with self.lock:
            self._merge(name, {"data": {key: None if value is None else _coded(value)}})

    def values(self, name: str) -> dict[str, str]:
        """What a Secret holds."""
        data = self.secrets[NAMESPACE, name].get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def version(self, name: str) -> str:
        return str(self.secrets[NAMESPACE, name]["metadata"]["resourceVersion"])

    def _merge(self, name: str, patch: dict[str, Any]) -> None:
        held = self.secrets[NAMESPACE, name]
        data = held.get("data", {}) | patch.get("data", {})
        held["data"] = {key: value for key, value in data.items() if value is not None}
        held["metadata"]["resourceVersion"] = str(int(self.version(name)) + 1)

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Status and object of one request."""
        self.requests.append((method, path))
        if self.failures:
            return _status(self.failures.pop(0), "made to fail")
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return _status(401, "Unauthorized")
        parts = path.strip("/").split("/")
        if parts[:3] != ["api", "v1", "namespaces"] or parts[4:5] != ["secrets"] or len(parts) != 6:
            return _status(404, "no such resource")
        return self._of_secret(method, parts[3], parts[5], headers, body)

    def _of_secret(
        self, method: str, namespace: str, name: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        if ({"GET": "get", "PATCH": "patch"}[method], namespace, name) not in self.allowed:
            return _status(403, f'secrets "{name}" is forbidden')
        if (namespace, name) not in self.secrets:
            return _status(404, f'secrets "{name}" not found')
        if method == "GET":
            found = json.loads(json.dumps(self.secrets[namespace, name]))
            self.on_read()
            return 200, found
        if headers.get("content-type") != "application/merge-patch+json":
            return _status(415, "unsupported media type")
        with self.lock:
            return self._patched(name, json.loads(body))

    def _patched(self, name: str, patch: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        held = self.secrets[NAMESPACE, name]
        if patch.get("metadata", {}).get("resourceVersion", self.version(name)) != self.version(
            name
        ):
            return _status(409, "the object has been modified")
        if held.get("immutable"):
            return _status(422, "field is immutable when `immutable` is set")
        self._merge(name, patch)
        return 200, held


def _coded(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _status(code: int, message: str) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "code": code, "message": message}


@contextmanager
def serving(folder: Path, *, authority: trustme.CA | None = None) -> Iterator[Api]:
    """The server on a port of its own, and the folder of a pod's service account.

    Args:
        folder: For the account's files.
        authority: Signs its certificate; the account's ca.crt is another's then.
    """
    own = trustme.CA()
    api = Api(folder / "account")
    api.account.mkdir()
    (api.account / "token").write_text(f"{TOKEN}\n")
    (api.account / "namespace").write_text(NAMESPACE)
    own.cert_pem.write_to_path(str(api.account / "ca.crt"))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, found = api.answer(self.command, self.path, headers, body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PATCH = _do  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (authority or own).issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    api.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
