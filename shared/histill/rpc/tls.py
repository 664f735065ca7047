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
from histill.rpc import measures

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from histill.core.service_settings import TlsSettings

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True)
class Pems:
    """The bytes of PEM files that belong together; no authority asks for no certificate.

    Attributes:
        expires: When the certificate does, in UTC.
    """

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime

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
    reloader = _Reloader(tls, first)
    measures.CERTIFICATE_EXPIRY.labels("server").set_function(reloader.expires)
    return grpc.dynamic_ssl_server_credentials(
        first.configuration(),
        # It may return None, which its types do not say.
        reloader.changed,  # type: ignore[arg-type]
        require_client_authentication=first.client_ca is not None,
    )


def tell_client_certificate(path: str) -> None:
    """Says when a certificate expires that is shown to servers, and was read at the start.

    Args:
        path: Of its PEM file.

    Raises:
        SettingsError: It cannot be read, or is no PEM.
    """
    pem = _read("CERTIFICATE", path)
    chain = _parsed("CERTIFICATE", path, x509.load_pem_x509_certificates, pem)
    end = chain[0].not_valid_after_utc
    measures.CERTIFICATE_EXPIRY.labels("client").set(end.timestamp())


class _Reloader:
    """Looks at the files at the start of each connection; gRPC asks from threads of its own."""

    def __init__(self, tls: TlsSettings, first: Pems) -> None:
        self._tls = tls
        self._seen = _stamps(tls)
        self._lock = threading.Lock()
        self._newest = self._given = first

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates, or ``None`` to keep those that are in use."""
        with self._lock:
            self._look()
            if self._given is self._newest:
                return None
            self._given = self._newest
            return self._newest.configuration()

    def expires(self) -> float:
        """When what the next connection is shown expires, in seconds since 1970.

        It looks at the files, too: a renewal is told also where nobody connects.
        """
        with self._lock:
            self._look()
            return self._newest.expires.timestamp()

    def _look(self) -> None:
        stamps = _stamps(self._tls)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._newest = read_pems(self._tls)
        except SettingsError as exc:
            log.error("certificates_kept", why=str(exc))  # noqa: TRY400 - the words say it all
            return
        log.info("certificates_renewed", certificate=self._tls.certificate)


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
        return Pems(certificate, key, None, end)
    client_ca = _read("CLIENT_CA", tls.client_ca)
    _parsed("CLIENT_CA", tls.client_ca, x509.load_pem_x509_certificates, client_ca)
    return Pems(certificate, key, client_ca, end)


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
