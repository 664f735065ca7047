"""What a server tells of itself before anybody calls it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from prometheus_client import REGISTRY

from certificates import files_in
from histill.api.inference.v2 import grpc_service_pb2  # noqa: F401 - its methods are looked up
from histill.core.errors import SettingsError
from histill.core.service_settings import TlsSettings
from histill.rpc.expected import expect_calls
from histill.rpc.measures import tell_build
from histill.rpc.tls import reloading_credentials, tell_client_certificate

if TYPE_CHECKING:
    from pathlib import Path

AUTHORITY = trustme.CA()


def expiry(use: str) -> float | None:
    name = "histill_tls_certificate_expiry_timestamp_seconds"
    return REGISTRY.get_sample_value(name, {"use": use})


def end_of(path: Path) -> float:
    return x509.load_pem_x509_certificates(path.read_bytes())[0].not_valid_after_utc.timestamp()


def test_methods_are_told_before_they_are_called() -> None:
    """A first failure is then an increase from 0, and not a count out of nowhere."""
    expect_calls(("inference.GRPCInferenceService", "no.Such"))
    labels = {
        "grpc_type": "bidi_stream",
        "grpc_service": "inference.GRPCInferenceService",
        "grpc_method": "ModelStreamInfer",
    }
    for code in ("OK", "UNAVAILABLE", "RESOURCE_EXHAUSTED"):
        told = REGISTRY.get_sample_value("grpc_server_handled_total", labels | {"grpc_code": code})
        assert told is not None
    labels |= {"grpc_type": "unary", "grpc_method": "ModelInfer"}
    assert REGISTRY.get_sample_value("grpc_server_handling_seconds_count", labels) is not None


def test_a_process_says_what_it_is() -> None:
    """Its kind and its version are labels of one series."""
    tell_build("test")
    told = [
        sample.labels
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == "histill_build_info" and sample.labels["process"] == "test"
    ]
    assert len(told) == 1
    assert told[0]["version"][0].isdigit()


def test_the_end_of_a_certificate_follows_its_file(tmp_path: Path) -> None:
    """A renewed one is told at once, without a connection; a broken one changes nothing."""
    files = files_in(tmp_path, AUTHORITY)
    settings = {"certificate": str(files.certificate), "key": str(files.key)}
    reloading_credentials(TlsSettings.model_validate(settings))
    first = end_of(files.certificate)
    assert expiry("server") == first
    files.issue(AUTHORITY, expired=True)
    assert end_of(files.certificate) < first
    assert expiry("server") == first
    soon = datetime.now(UTC) + timedelta(days=3)
    made = AUTHORITY.issue_cert("localhost", not_after=soon)
    files.put("tls.key", made.private_key_pem.bytes())
    files.put("tls.crt", made.cert_chain_pems[0].bytes())
    assert expiry("server") == end_of(files.certificate) < first


def test_a_certificate_for_servers_is_told_too(tmp_path: Path) -> None:
    """As it was at the start; what is no certificate stops the start."""
    files = files_in(tmp_path, AUTHORITY)
    tell_client_certificate(str(files.certificate))
    assert expiry("client") == end_of(files.certificate)
    with pytest.raises(SettingsError, match=r"tls\.key is not PEM"):
        tell_client_certificate(str(files.key))
