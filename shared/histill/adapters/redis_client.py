"""The connection to Redis, and its errors as ours."""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import certifi
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, LockError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from histill.adapters.measures import Failure, Store, expect, failed
from histill.core.errors import QueueUnavailableError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.core.settings import RedisSettings

PREFIX = "histill:"
# Deleted with the job; the mark that it has ended outlives it, for those who speak late.
JOB_KEYS = ("lease", "fence", "progress", "metrics", "cancel", "events", "archived", "attempt")


def tls_options(settings: RedisSettings) -> dict[str, Any]:
    """What a connection to a ``rediss://`` URL is checked by; empty for ``redis://``.

    Raises:
        SettingsError: An authority is given for a connection in clear text, or the URL would
            change what is checked.
    """
    url = urlsplit(settings.url.get_secret_value())
    if any(name.startswith("ssl_") for name, _ in parse_qsl(url.query)):
        # One of our two libraries would let it replace all that follows here.
        raise SettingsError(
            "HISTILL_REDIS__URL must say nothing of TLS but rediss://; take ssl_… out, and name "
            "the authority in HISTILL_REDIS__CA_FILE"
        )
    if url.scheme != "rediss":
        if settings.ca_file:
            raise SettingsError("HISTILL_REDIS__CA_FILE needs a HISTILL_REDIS__URL of rediss://")
        return {}
    return {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": settings.ca_file or certifi.where(),
        "ssl_check_hostname": True,
    }


def connect(settings: RedisSettings) -> Redis:
    """A client with bounded waits; opens no connection yet; safe between threads.

    Raises:
        SettingsError: ``HISTILL_REDIS__URL`` is no Redis URL.
    """
    expect(Store.REDIS)
    try:
        return Redis.from_url(
            settings.url.get_secret_value(),
            decode_responses=True,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=2),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
            health_check_interval=30,
            **tls_options(settings),
        )
    except ValueError:
        # Its own words repeat parts of the URL, and so of the password.
        raise SettingsError(
            "HISTILL_REDIS__URL is no redis://:PASSWORD@HOST:PORT/DB; "
            "percent-encode what is special in the password"
        ) from None


@contextmanager
def translated() -> Iterator[None]:
    """Raises QueueUnavailableError for every Redis error of the block, without the URL."""
    try:
        yield
    except AuthenticationError as exc:
        failed(Store.REDIS, Failure.CREDENTIALS)
        raise QueueUnavailableError(
            "Redis refuses our password; correct HISTILL_REDIS__URL"
        ) from exc
    except (RedisConnectionError, RedisTimeoutError) as exc:
        failed(Store.REDIS, Failure.UNANSWERED)
        raise QueueUnavailableError(
            f"Redis does not answer ({type(exc).__name__}); is HISTILL_REDIS__URL right?"
        ) from exc
    except RedisError as exc:
        if not isinstance(exc, LockError):  # which its holder is told, and no fault of Redis
            failed(Store.REDIS, Failure.REFUSED)
        raise QueueUnavailableError(f"Redis refused: {exc}") from exc


def run_script(client: Redis, script: str, keys: list[str], arguments: list[str | int]) -> Any:
    """Runs a Lua script: one atomic step on the server."""
    with translated():
        return client.eval(script, len(keys), *keys, *arguments)


def job_key(job_id: str, kind: str) -> str:
    """Key of one live fact of a job; ``kind`` is one of ``JOB_KEYS``, ``lock`` or ``ended``."""
    return f"{PREFIX}job:{job_id}:{kind}"
