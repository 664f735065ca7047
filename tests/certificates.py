"""Certificates for tests, and what a server shows to a new connection."""

from __future__ import annotations

import datetime as dt
import os
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import trustme


@dataclass
class Files:
    """PEM files of one side in a folder."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "tls.crt"

    @property
    def key(self) -> Path:
        return self.folder / "tls.key"

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    def put(self, name: str, data: bytes) -> None:
        """Replaces a file as a whole, as renewals do."""
        fresh = self.folder / f".{name}"
        fresh.write_bytes(data)
        fresh.replace(self.folder / name)

    def issue(self, authority: trustme.CA, *, expired: bool = False) -> None:
        """A new certificate for 127.0.0.1 and localhost, its key, and the authority's own."""
        end = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        made = authority.issue_cert(
            "localhost", "127.0.0.1", not_after=end if expired else None,
            not_before=end - dt.timedelta(days=1) if expired else None,
        )  # fmt: skip
        self.put("tls.key", made.private_key_pem.bytes())
        self.put("tls.crt", b"".join(pem.bytes() for pem in made.cert_chain_pems))
        self.put("ca.crt", authority.cert_pem.bytes())


def files_in(folder: Path, authority: trustme.CA, *, expired: bool = False) -> Files:
    """A folder with everything in it."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(folder)
    files.issue(authority, expired=expired)
    return files


def serial_of(port: int, authority: Path, client: Files | None = None) -> str:
    """Serial number of the certificate that a new connection is shown.

    Raises:
        ssl.SSLError: The handshake fails.
    """
    context = ssl.create_default_context(cafile=os.fspath(authority))
    context.set_alpn_protocols(["h2"])
    if client:
        context.load_cert_chain(client.certificate, client.key)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as opened,
    ):
        shown = opened.getpeercert()
        assert shown
        return str(shown["serialNumber"])
