"""Stores behind TLS: who answers is checked, by the authority that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from histill.adapters.celery_queue import CeleryJobQueue
from histill.adapters.redis_client import connect, translated
from histill.adapters.s3 import S3ObjectStore
from histill.core.errors import (
    QueueUnavailableError,
    SettingsError,
    StorageRefusedError,
    StorageUnavailableError,
)
from histill.core.settings import RedisSettings
from tls_proxy import tls_in_front_of

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3, Valkey


def test_s3_of_an_own_authority_is_reached_with_its_file_alone(s3: S3, tmp_path: Path) -> None:
    """Without the file the server is a stranger, and nothing is sent to it."""
    port = int(s3.settings.endpoint.rpartition(":")[2])
    with tls_in_front_of(port, tmp_path) as front:
        known = s3.settings.model_copy(
            update={
                "endpoint": f"localhost:{front.port}",
                "secure": True,
                "ca_file": str(front.ca_file),
                "bucket": "behind-tls",
            }
        )
        store = S3ObjectStore.connect(known)
        store.ensure_bucket()
        store.put("a", b"b")
        assert store.get("a") == b"b"
        stranger = S3ObjectStore.connect(known.model_copy(update={"ca_file": ""}))
        with pytest.raises(StorageUnavailableError):
            stranger.ping()


def test_redis_of_an_own_authority_is_reached_with_its_file_alone(
    valkey: Valkey, tmp_path: Path
) -> None:
    """The client and the queue both refuse a server that they cannot check."""
    inner = valkey.settings.url.get_secret_value()
    before, _, port = inner.partition("127.0.0.1:")
    with tls_in_front_of(int(port.partition("/")[0]), tmp_path) as front:
        url = SecretStr(f"{before.replace('redis://', 'rediss://')}localhost:{front.port}/0")
        known = RedisSettings(url=url, ca_file=str(front.ca_file), timeout_s=2)
        with connect(known) as client:
            assert client.ping()
        queue = CeleryJobQueue.connect(known)
        queue.submit("job-behind-tls", pool="tls", priority=0)
        assert "job-behind-tls" in queue.waiting(["tls"])
        # Another database: connections of one URL are shared, whatever they were checked by.
        other = SecretStr(f"{url.get_secret_value().removesuffix('0')}1")
        stranger = known.model_copy(update={"ca_file": "", "url": other})
        with pytest.raises(QueueUnavailableError), translated(), connect(stranger) as client:
            client.ping()
        with pytest.raises(QueueUnavailableError):
            CeleryJobQueue.connect(stranger).submit("never", pool="tls", priority=0)
        assert "never" not in queue.waiting(["tls"])


def test_a_certificate_of_another_name_is_refused(valkey: Valkey, tmp_path: Path) -> None:
    """The right authority is not enough: it signs for others too."""
    inner = valkey.settings.url.get_secret_value()
    before, _, port = inner.partition("127.0.0.1:")
    with tls_in_front_of(int(port.partition("/")[0]), tmp_path, name="elsewhere") as front:
        url = SecretStr(f"{before.replace('redis://', 'rediss://')}localhost:{front.port}/0")
        settings = RedisSettings(url=url, ca_file=str(front.ca_file), timeout_s=2)
        with pytest.raises(QueueUnavailableError), translated(), connect(settings) as client:
            client.ping()
        with pytest.raises(QueueUnavailableError):
            CeleryJobQueue.connect(settings).submit("never", pool="tls", priority=0)


def test_an_authority_for_clear_text_is_a_mistake_that_is_named() -> None:
    """Whoever gives a file expects TLS, and the URL has none."""
    settings = RedisSettings(ca_file="ca.crt")
    with pytest.raises(SettingsError, match="rediss://"):
        connect(settings)
    with pytest.raises(SettingsError, match="rediss://"):
        CeleryJobQueue.connect(settings)


@pytest.mark.parametrize("query", ["ssl_cert_reqs=none", "a=b&ssl_check_hostname=false"])
def test_a_url_cannot_switch_the_checks_off(query: str) -> None:
    """Of two libraries one would obey, and the other not."""
    settings = RedisSettings(url=SecretStr(f"rediss://localhost:1/0?{query}"))
    with pytest.raises(SettingsError, match="HISTILL_REDIS__CA_FILE"):
        connect(settings)
    with pytest.raises(SettingsError, match="HISTILL_REDIS__CA_FILE"):
        CeleryJobQueue.connect(settings)


def test_a_bucket_is_not_made_where_the_settings_forbid_it(s3: S3) -> None:
    """A misspelled name must not become a bucket without the operator's rules."""
    settings = s3.settings.model_copy(update={"bucket": "misspelled", "create_bucket": False})
    store = S3ObjectStore.connect(settings)
    with pytest.raises(StorageRefusedError, match="CREATE_BUCKET"):
        store.ensure_bucket()
    with pytest.raises(StorageUnavailableError, match="does not exist"):
        store.ping()
