"""Certificates of a server that may be renewed while it runs."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from histill.core.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from histill.core.service_settings import TlsSettings

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True)
class Pems:
    """The bytes of PEM files that belong together; no authority asks for no certificate."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes them."""
        return grpc.ssl_server_certificate_configuration(
            [(self.key, self.certificate)], self.client_ca
        )


def reloading_credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    """Credentials that follow the files: each new connection is shown what lies there then.

    Files that are broken, or do not belong together (yet), change nothing and are logged.

    Raises:
        SettingsError: The files are wrong at the start; says which and why.
    """
    first = read_pems(tls)
    return grpc.dynamic_ssl_server_credentials(
        first.configuration(),
        # It may return None, which its types do not say.
        _Reloader(tls).changed,  # type: ignore[arg-type]
        require_client_authentication=first.client_ca is not None,
    )


class _Reloader:
    """Looks at the files at the start of each connection; gRPC asks from threads of its own."""

    def __init__(self, tls: TlsSettings) -> None:
        self._tls = tls
        self._seen = _stamps(tls)
        self._lock = threading.Lock()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates, or ``None`` to keep those that are in use."""
        with self._lock:
            stamps = _stamps(self._tls)
            if stamps == self._seen:
                return None
            self._seen = stamps
            try:
                pems = read_pems(self._tls)
            except SettingsError as exc:
                log.error("certificates_kept", why=str(exc))  # noqa: TRY400 - the words say it all
                return None
            log.info("certificates_renewed", certificate=self._tls.certificate)
            return pems.configuration()


def _stamps(tls: TlsSettings) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(_stamp(name) for name in (tls.certificate, tls.key, tls.client_ca) if name)


def _stamp(name: str) -> tuple[int, int, int] | None:
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_pems(tls: TlsSettings) -> Pems:
    """Reads the files and checks that a server could work with them.

    Raises:
        SettingsError: One cannot be read, is no PEM, has expired, or belongs to another key.
    """
    certificate = _read("CERTIFICATE", tls.certificate)
    key = _read("KEY", tls.key)
    chain = _parsed("CERTIFICATE", tls.certificate, x509.load_pem_x509_certificates, certificate)
    private = _parsed("KEY", tls.key, _private_key, key)
    if _public(chain[0].public_key()) != _public(private):
        raise SettingsError(
            f"HISTILL_TLS__KEY: {tls.key} is not the key of the certificate in {tls.certificate}"
        )
    end = chain[0].not_valid_after_utc
    if end <= datetime.now(UTC):
        raise SettingsError(
            f"HISTILL_TLS__CERTIFICATE: {tls.certificate} expired on {end:%Y-%m-%d}; renew it"
        )
    if not tls.client_ca:
        return Pems(certificate, key, None)
    client_ca = _read("CLIENT_CA", tls.client_ca)
    _parsed("CLIENT_CA", tls.client_ca, x509.load_pem_x509_certificates, client_ca)
    return Pems(certificate, key, client_ca)


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise SettingsError(f"HISTILL_TLS__{name}: {path} cannot be read: {exc.strerror}") from exc


def _parsed(name: str, path: str, parse: Callable[[bytes], T], data: bytes) -> T:
    try:
        return parse(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise SettingsError(f"HISTILL_TLS__{name}: {path} is not PEM of that kind") from exc


def _private_key(data: bytes) -> PublicKeyTypes:
    return load_pem_private_key(data, password=None).public_key()


def _public(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
