"""The public keys that an OpenID Connect issuer publishes, fetched over HTTPS.

Sources: OpenID Connect Discovery 1.0, https://openid.net/specs/openid-connect-discovery-1_0.html;
JSON Web Key, RFC 7517.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import certifi
import urllib3
from urllib3.exceptions import HTTPError

from histill.core.errors import UnavailableError

if TYPE_CHECKING:
    from histill.core.service_settings import OidcSettings

_MOST_BYTES = 1 << 20
_DISCOVERY = "/.well-known/openid-configuration"


def fetch_keys(settings: OidcSettings) -> list[dict[str, Any]]:
    """The issuer's JSON Web Keys; blocks.

    Raises:
        UnavailableError: The issuer does not answer, or not with keys.
    """
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(total=settings.timeout_s),
        cert_reqs="CERT_REQUIRED",
        ca_certs=settings.ca_file or certifi.where(),
        retries=False,
    )
    with pool:
        url = settings.jwks_url or _discovered(pool, settings.issuer)
        keys = _get(pool, url).get("keys")
    if not isinstance(keys, list):
        raise UnavailableError(f"{url} holds no keys")
    return [key for key in keys if isinstance(key, dict)]


def _discovered(pool: urllib3.PoolManager, issuer: str) -> str:
    found = _get(pool, issuer.rstrip("/") + _DISCOVERY)
    if found.get("issuer") != issuer:
        raise UnavailableError(f"{issuer} says that it is {found.get('issuer')!r}")
    url = str(found.get("jwks_uri", ""))
    # Keys that came in clear text could be anybody's.
    if urlsplit(url).scheme != urlsplit(issuer).scheme:
        raise UnavailableError(f"{issuer} names no address of its keys that is as safe: {url!r}")
    return url


def _get(pool: urllib3.PoolManager, url: str) -> dict[str, Any]:
    try:
        answer = pool.request("GET", url, redirect=False, preload_content=False)
        try:
            data = answer.read(_MOST_BYTES + 1, decode_content=True)
        finally:
            answer.close()
    except (HTTPError, OSError) as exc:
        raise UnavailableError(f"{url} does not answer ({type(exc).__name__})") from exc
    if answer.status != HTTPStatus.OK:
        raise UnavailableError(f"{url} answers with status {answer.status}")
    try:
        found = json.loads(data) if len(data) <= _MOST_BYTES else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UnavailableError(f"{url} does not answer with a JSON object of at most 1 MiB")
    return found
