"""Who calls, and whether they may."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core.errors import PermissionDeniedError, UnauthenticatedError
from histill.core.projects import DEFAULT
from histill.rpc.roles import OPEN_PREFIXES, RANKS, ROLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from histill.core.settings import ApiKey, AuthSettings

_SCHEME = "bearer "


@dataclass(frozen=True)
class Caller:
    """Who calls.

    Attributes:
        id: Of the key, for logs.
        project: Whose models, datasets and jobs are seen, and whose quotas count.
    """

    id: str
    project: str = DEFAULT


ANONYMOUS = Caller("anonymous")


def authorize(method: str, metadata: Mapping[str, str], settings: AuthSettings) -> Caller:
    """Who calls ``method``, when they may.

    Args:
        method: Full method, ``/package.Service/Method``.
        metadata: Of the call, names in lower case.
        settings: Keys and mode.

    Returns:
        The key's holder, or ``ANONYMOUS``.

    Raises:
        UnauthenticatedError: There is no key, or none that we know.
        PermissionDeniedError: The key's role may not call this method.
    """
    if method.startswith(OPEN_PREFIXES):
        return ANONYMOUS
    if method not in ROLES:
        raise PermissionDeniedError(f"{method} has no role and may not be called")
    if settings.mode == "none":
        return ANONYMOUS
    key = _find(metadata.get("authorization", ""), settings.api_keys)
    if RANKS[key.role] < RANKS[ROLES[method]]:
        raise PermissionDeniedError(f"{method} needs the role {ROLES[method]}; yours is {key.role}")
    return Caller(key.id, key.project)


def _find(header: str, keys: tuple[ApiKey, ...]) -> ApiKey:
    if not header.lower().startswith(_SCHEME):
        raise UnauthenticatedError("send an API key in the metadata authorization: Bearer KEY")
    digest = hashlib.sha256(header[len(_SCHEME) :].encode()).hexdigest()
    # Every key is compared, so that the time tells nothing about which one was close.
    found = [key for key in keys if hmac.compare_digest(key.sha256, digest)]
    if not found:
        raise UnauthenticatedError("the API key is not known here")
    return found[0]
