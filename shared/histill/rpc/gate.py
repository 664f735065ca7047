"""Whom a server lets in: credentials, roles and limits, in front of every call."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from histill.core.api_keys import PREFIX, digest, is_whole
from histill.core.clock import utc_now
from histill.core.errors import ResourceExhaustedError, UnauthenticatedError, UnavailableError
from histill.core.projects import DEFAULT
from histill.core.service_settings import AuthSettings, LimitSettings
from histill.rpc.auth import ANONYMOUS, EVERYBODY, Caller, authorize, needed_role
from histill.rpc.buckets import Buckets
from histill.rpc.issuer import fetch_keys
from histill.rpc.issuer_keys import IssuerKeys
from histill.rpc.peers import address_of
from histill.rpc.roles import OPEN_PREFIXES
from histill.rpc.stored_keys import NoStoredKeys
from histill.rpc.tokens import Tokens, looks_like_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from histill.core.clock import Clock
    from histill.rpc.stored_keys import KeyLookup

_SCHEME = "bearer "
_MOST_KNOWN = 10_000
_NEVER = LimitSettings(failures_per_minute=0)


@dataclass(frozen=True)
class Admission:
    """A call that was let in.

    Attributes:
        caller: Who makes it.
        check: Raises UnauthenticatedError once the caller's key has ended, so that a stream
            ends with it. Tokens are short-lived and are looked at when a call begins.
    """

    caller: Caller
    check: Callable[[], None] = lambda: None


class Gate:
    """Lets calls in; for one event loop.

    Args:
        settings: Mode, keys and issuer.
        stored: Keys that come and go.
        limits: How often a caller may call and an address may fail.
        tokens: Of the issuer; made from the settings when it is not given.
        clock: The present time.
    """

    def __init__(
        self,
        settings: AuthSettings,
        stored: KeyLookup | None = None,
        limits: LimitSettings = _NEVER,
        *,
        tokens: Tokens | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._open = settings.mode == "none"
        self._roots = {key.sha256: key for key in settings.api_keys}
        self._stored = stored or NoStoredKeys()
        self._tokens = tokens or _tokens(settings)
        self._clock = clock
        self._calls = Buckets(per_s=limits.calls_per_s, burst=limits.call_burst)
        self._failures = Buckets(per_s=limits.failures_per_minute / 60, burst=limits.failure_burst)
        # Digests of credentials that were right: who shares an address with somebody who
        # guesses is not locked out with them.
        self._known: OrderedDict[str, None] = OrderedDict()

    async def admit(
        self,
        method: str,
        metadata: Mapping[str, str],
        peer: str,
        known: Callable[[Caller], object] = lambda _: None,
    ) -> Admission:
        """Who calls ``method``, when they may.

        Args:
            method: Full method, ``/package.Service/Method``.
            metadata: Of the call, names in lower case.
            peer: gRPC's name of the other side.
            known: Told who calls, before it is asked whether they may.

        Raises:
            UnauthenticatedError: There are no credentials, or none that are in force.
            PermissionDeniedError: The role may not call this method.
            ResourceExhaustedError: Too many calls of this caller, or too many wrong
                credentials from this address.
            UnavailableError: Whether the credentials are right cannot be found out now.
        """
        if method.startswith(OPEN_PREFIXES):
            return Admission(ANONYMOUS)
        needed_role(method)
        admission = await self._admission(metadata.get("authorization", ""), peer)
        caller = admission.caller
        known(caller)
        authorize(method, caller)
        self._count(address_of(peer) if self._open else f"{caller.project}/{caller.id}")
        return admission

    async def _admission(self, header: str, peer: str) -> Admission:
        if self._open:
            return Admission(EVERYBODY)
        credential = header[len(_SCHEME) :].strip() if header.lower().startswith(_SCHEME) else ""
        sha256, address = digest(credential), address_of(peer)
        wait = self._failures.wait_s(address)
        # Only failures are slowed down: what is right is let in from anywhere, at once. A key is
        # found by its digest, and a token checked with what is here; of an issuer, which takes
        # longer, nothing is asked.
        if wait and sha256 not in self._known and not self._found_out_here(credential):
            raise _slowed(wait)
        try:
            admission = await self._checked(credential, sha256)
        except UnauthenticatedError:
            self._known.pop(sha256, None)
            if wait:
                raise _slowed(wait) from None
            self._failures.take(address)
            raise
        self._known[sha256] = None
        self._known.move_to_end(sha256)
        if len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return admission

    def _found_out_here(self, credential: str) -> bool:
        if self._tokens and looks_like_token(credential):
            return self._tokens.has_key_of(credential)
        return bool(credential)

    async def _checked(self, credential: str, sha256: str) -> Admission:
        if not credential:
            raise UnauthenticatedError(
                "send an API key in the metadata authorization: Bearer KEY"
                + (", or a token of your sign-in" if self._tokens else "")
            )
        if self._tokens and looks_like_token(credential):
            return Admission(await self._tokens.caller(credential))
        try:
            return Admission(self._holder(sha256), partial(self._holder_check, sha256))
        except UnauthenticatedError:
            if credential.startswith(PREFIX) and not is_whole(credential):
                raise UnauthenticatedError(
                    "the API key is damaged: letters of it are missing or wrong; copy it again"
                ) from None
            if not self._stored.loaded and is_whole(credential):
                raise UnavailableError("API keys cannot be read yet; try again") from None
            raise

    def _holder_check(self, sha256: str) -> None:
        self._holder(sha256)

    def _holder(self, sha256: str) -> Caller:
        """Who holds the key of this digest. Its end is told to nobody but its holder."""
        root = self._roots.get(sha256)
        if root and hmac.compare_digest(root.sha256, sha256):
            is_root = root.role == "admin" and root.project == DEFAULT
            return Caller(root.id, root.project, root.role, root=is_root)
        key = self._stored.find(sha256)
        if key is None or not hmac.compare_digest(key.sha256, sha256):
            raise UnauthenticatedError(
                "the API key is not known here; an admin makes one with histill keys create"
            )
        if key.revoke_time:
            raise UnauthenticatedError(
                f"the API key {key.id} was revoked on {key.revoke_time:%Y-%m-%d}; "
                "ask an admin for another"
            )
        if key.expire_time and key.expire_time <= self._clock():
            raise UnauthenticatedError(
                f"the API key {key.id} expired on {key.expire_time:%Y-%m-%d}; "
                "ask an admin for another"
            )
        return Caller(key.id, key.project, key.role)

    def _count(self, name: str) -> None:
        if wait := self._calls.take(name):
            raise ResourceExhaustedError(
                "too many calls; wait, or ask for a higher HISTILL_SERVER__LIMITS__CALLS_PER_S",
                retry_after_s=wait,
            )


def _slowed(wait_s: float) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        "too many wrong credentials came from your address; wait, and correct the key",
        retry_after_s=wait_s,
    )


def _tokens(settings: AuthSettings) -> Tokens | None:
    oidc = settings.oidc
    if not oidc.issuer:
        return None
    return Tokens(oidc, IssuerKeys(oidc, partial(fetch_keys, oidc)))
