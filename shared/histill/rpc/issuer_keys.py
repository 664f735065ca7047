"""An issuer's keys in memory: fetched beside the calls, seldom, and kept while it is away."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from histill.core.errors import UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.core.service_settings import OidcSettings

# Secrets that both sides share (kty oct) are no public keys: with one, whoever may check
# tokens could make them.
_PUBLIC = frozenset({"RSA", "EC", "OKP"})
log = structlog.get_logger()


class IssuerKeys:
    """Finds the key that signed a token; for one event loop.

    Args:
        settings: How old keys may become, and how often they are fetched.
        fetch: Returns JSON Web Keys or raises UnavailableError; may block.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        settings: OidcSettings,
        fetch: Callable[[], list[dict[str, Any]]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        # Its own: calls that wait for S3 may hold every thread of the loop's.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="issuer-keys")
        self._raw: dict[str, dict[str, Any]] = {}
        self._parsed: dict[tuple[str, str], PyJWK] = {}
        self._fetched_at = -math.inf
        self._tried_at = -math.inf
        self._failed = ""
        self._running: asyncio.Task[None] | None = None

    async def find(self, key_id: str, algorithm: str) -> PyJWK:
        """The key of that id, for that algorithm.

        An id that is not known makes the keys be fetched again, for the issuer may have new
        ones; but no two fetches are closer than ``min_fetch_s``, however many ask.

        Args:
            key_id: Of the token's header; empty: the only key, if there is only one.
            algorithm: Of the token's header.

        Raises:
            UnauthenticatedError: The issuer has no such key.
            UnavailableError: The issuer could not be asked.
        """
        age = self._clock() - self._fetched_at
        if age > self._settings.keep_s:
            self._raw, self._parsed = {}, {}
        if age > self._settings.refresh_s:
            self._start()
        if self._of(key_id) is None:
            self._start()
            if self._running:
                await asyncio.shield(self._running)
        found = self._of(key_id)
        if found is None:
            if self._failed:
                raise UnavailableError("the issuer of tokens does not answer; try again later")
            raise UnauthenticatedError("the token was signed with a key that its issuer lacks")
        return self._parse(found, algorithm)

    def has(self, key_id: str) -> bool:
        """Whether the key of that id is here, so that nobody need be asked for it."""
        return self._of(key_id) is not None

    def _of(self, key_id: str) -> dict[str, Any] | None:
        if key_id:
            return self._raw.get(key_id)
        return next(iter(self._raw.values())) if len(self._raw) == 1 else None

    def _parse(self, raw: dict[str, Any], algorithm: str) -> PyJWK:
        name = str(raw.get("kid", "")), algorithm
        if name not in self._parsed:
            try:
                # A key that names its algorithm is for no other.
                self._parsed[name] = PyJWK(raw, None if "alg" in raw else algorithm)
            except (PyJWTError, ValueError, TypeError) as exc:
                raise UnauthenticatedError(
                    f"the token says {algorithm}, which its issuer's key is not for"
                ) from exc
        return self._parsed[name]

    def _start(self) -> None:
        early = self._clock() - self._tried_at < self._settings.min_fetch_s
        if early or (self._running and not self._running.done()):
            return
        self._tried_at = self._clock()
        self._running = asyncio.create_task(self._refresh())

    async def _refresh(self) -> None:
        try:
            keys = await asyncio.get_running_loop().run_in_executor(self._thread, self._fetch)
        except UnavailableError as exc:
            self._failed = str(exc)
            log.warning("issuer_away", why=self._failed, keys=len(self._raw))
            return
        except Exception:
            self._failed = "crashed"
            log.exception("issuer_keys_crashed")
            return
        usable = [k for k in keys if k.get("kty") in _PUBLIC and k.get("use", "sig") == "sig"]
        self._raw = {str(key.get("kid", "")): key for key in usable}
        self._parsed = {}
        self._failed = ""
        self._fetched_at = self._clock()
        log.info("issuer_keys_read", keys=len(self._raw))
