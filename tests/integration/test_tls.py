"""TLS and mTLS of a real service, and certificates that are renewed while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from certificates import Files, files_in, serial_of
from conftest import wait_for_port
from histill.client import Client, ClientSettings
from histill.core.errors import HistillError, SettingsError, UnavailableError
from histill.core.service_settings import TlsSettings
from histill.rpc.channel import ChannelTls, sync_channel
from histill.rpc.tls import read_pems
from services import KEY, service, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import grpc

    from conftest import S3, Valkey
    from services import Service

AUTHORITY = trustme.CA()
OTHER = trustme.CA()


def variables_of(files: Files, *, mutual: bool) -> dict[str, str]:
    variables = {
        "HISTILL_TLS__CERTIFICATE": str(files.certificate),
        "HISTILL_TLS__KEY": str(files.key),
    }
    return variables | ({"HISTILL_TLS__CLIENT_CA": str(files.ca)} if mutual else {})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """The server's files."""
    return files_in(tmp_path / "server", AUTHORITY)


@pytest.fixture
def jobs(files: Files, tmp_path: Path, s3: S3, valkey: Valkey) -> Iterator[Service]:
    """A jobs service with TLS."""
    variables = settings_of(s3.settings, valkey.settings) | variables_of(files, mutual=False)
    with service("jobs", tmp_path, variables) as running:
        wait_for_port(running.port)
        yield running


def health(running: Service, tls: ChannelTls) -> grpc.Channel:
    return sync_channel(f"localhost:{running.port}", tls=tls)


def wait_for_log(running: Service, words: str) -> None:
    deadline = time.monotonic() + 10
    while words not in running.log.read_text():
        assert time.monotonic() < deadline, running.log.read_text()
        time.sleep(0.05)


def test_renewed_files_are_shown_to_new_connections(jobs: Service, files: Files) -> None:
    """The old connection and its stream go on; the next one sees the new certificate."""
    before = serial_of(jobs.port, files.ca)
    with health(jobs, ChannelTls(str(files.ca))) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        stream = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(stream) is not None
        files.issue(AUTHORITY)
        after = serial_of(jobs.port, files.ca)
        assert after != before
        assert serial_of(jobs.port, files.ca) == after
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5) is not None
        assert stream.is_active()
        stream.cancel()
    wait_for_log(jobs, "certificates_renewed")


def test_another_authority_can_take_over(jobs: Service, files: Files) -> None:
    """Our own client, with the new authority's file, is served without a restart."""
    files.issue(OTHER)
    settings = {"jobs": f"localhost:{jobs.port}", "api_key": KEY, "ca_file": str(files.ca)}
    with Client(ClientSettings.model_validate(settings)) as client:
        next(client.jobs.list(), None)  # answered: there may be jobs of other tests


@pytest.mark.parametrize("damage", ["empty", "no PEM", "another key", "expired", "gone"])
def test_broken_new_files_change_nothing(jobs: Service, files: Files, damage: str) -> None:
    """The old certificate is kept, the log says why, and repaired files are taken."""
    before = serial_of(jobs.port, files.ca)
    match damage:
        case "empty":
            files.put("tls.crt", b"")
        case "no PEM":
            files.put("tls.key", b"-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n")
        case "another key":
            files.put("tls.key", AUTHORITY.issue_cert("localhost").private_key_pem.bytes())
        case "expired":
            files.issue(AUTHORITY, expired=True)
        case _:
            files.key.unlink()
    for _ in range(3):
        assert serial_of(jobs.port, files.ca) == before
    wait_for_log(jobs, "certificates_kept")
    assert jobs.log.read_text().count("certificates_kept") == 1
    files.issue(AUTHORITY)
    assert serial_of(jobs.port, files.ca) != before


def test_mutual_tls_lets_in_the_right_certificates_only(
    files: Files, tmp_path: Path, s3: S3, valkey: Valkey
) -> None:
    """No certificate, another authority's and an expired one end in the handshake."""
    variables = settings_of(s3.settings, valkey.settings) | variables_of(files, mutual=True)
    right = files_in(tmp_path / "right", AUTHORITY)
    foreign = files_in(tmp_path / "foreign", OTHER)
    expired = files_in(tmp_path / "expired", AUTHORITY, expired=True)
    with service("jobs", tmp_path, variables) as running:
        wait_for_port(running.port)

        def ask(client: Files | None) -> None:
            pair = (str(client.certificate), str(client.key)) if client else ("", "")
            settings = {
                "jobs": f"localhost:{running.port}", "api_key": KEY, "ca_file": str(files.ca),
                "certificate": pair[0], "key": pair[1], "timeout_s": 5,
            }  # fmt: skip
            with Client(ClientSettings.model_validate(settings)) as opened:
                list(opened.jobs.list())

        ask(right)
        for wrong in (None, foreign, expired):
            with pytest.raises(UnavailableError):
                ask(wrong)
        ask(right)
        # The authority of clients may change as well.
        files.put("ca.crt", OTHER.cert_pem.bytes())
        foreign.put("server-ca.crt", AUTHORITY.cert_pem.bytes())
        settings = {
            "jobs": f"localhost:{running.port}", "api_key": KEY, "timeout_s": 5,
            "ca_file": str(foreign.folder / "server-ca.crt"),
            "certificate": str(foreign.certificate), "key": str(foreign.key),
        }  # fmt: skip
        with Client(ClientSettings.model_validate(settings)) as opened:
            list(opened.jobs.list())


def test_clear_text_is_not_answered(jobs: Service) -> None:
    """A channel without TLS gets nothing from a server with it."""
    settings = {"jobs": f"localhost:{jobs.port}", "api_key": KEY, "timeout_s": 3}
    with (
        Client(ClientSettings.model_validate(settings)) as client,
        pytest.raises(HistillError),
    ):
        list(client.jobs.list())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("tls.crt", "CERTIFICATE: .* is not PEM"),
        ("tls.key", "KEY: .* is not PEM"),
        ("ca.crt", "CLIENT_CA: .* is not PEM"),
        ("gone", "KEY: .* cannot be read"),
        ("expired", "expired on"),
        ("another", "is not the key of"),
    ],
)
def test_wrong_files_stop_the_start_and_are_named(files: Files, damage: str, words: str) -> None:
    """Variable, file, and what is wrong with it."""
    match damage:
        case "gone":
            files.key.unlink()
        case "expired":
            files.issue(AUTHORITY, expired=True)
        case "another":
            files.put("tls.key", OTHER.issue_cert("localhost").private_key_pem.bytes())
        case _:
            files.put(damage, b"no")
    settings = TlsSettings(
        certificate=str(files.certificate), key=str(files.key), client_ca=str(files.ca)
    )
    with pytest.raises(SettingsError, match=words):
        read_pems(settings)
