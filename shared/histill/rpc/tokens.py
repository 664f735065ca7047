"""Tokens of an OpenID Connect issuer: checked, and turned into a caller.

Sources: JSON Web Token Best Current Practices, RFC 8725; access tokens, RFC 9068.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jwt
from jwt.exceptions import ExpiredSignatureError, InvalidAudienceError, PyJWTError

from histill.core.errors import InvalidArgumentError, PermissionDeniedError, UnauthenticatedError
from histill.core.projects import DEFAULT, check_project
from histill.rpc.auth import Caller
from histill.rpc.roles import RANKS

if TYPE_CHECKING:
    from histill.core.service_settings import OidcSettings, Role
    from histill.rpc.issuer_keys import IssuerKeys

# Signed with a private key. HS256 and the like are not among them: whoever knows the public
# key could sign with it. Nor is "none".
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
# As it stands in the audit log, with room for "oidc:"; but no digest, which stands for another.
_PLAIN_SUBJECT = re.compile(r"(?![0-9a-f]{64}$)[A-Za-z0-9._:@/|+=-]{1,120}")


def looks_like_token(credential: str) -> bool:
    """Whether it is written like a JWT: three parts, of which the first is a JSON object."""
    return credential.count(".") == 2 and credential.startswith("eyJ")  # noqa: PLR2004


@dataclass(frozen=True)
class Tokens:
    """Knows the callers of an issuer's tokens."""

    settings: OidcSettings
    keys: IssuerKeys

    async def caller(self, token: str) -> Caller:
        """Whose token it is.

        Raises:
            UnauthenticatedError: It is not the issuer's, not for us, or out of date.
            PermissionDeniedError: It gives no role or no project here.
            UnavailableError: The issuer's keys cannot be had.
        """
        claims = await self._claims(token)
        return Caller(
            _caller_id(str(claims["iss"]), str(claims["sub"])),
            _project(claims, self.settings),
            _role(claims, self.settings),
        )

    def has_key_of(self, token: str) -> bool:
        """Whether a token can be checked without its issuer, since its key is here."""
        try:
            header = jwt.get_unverified_header(token)
        except PyJWTError:
            return False
        return self.keys.has(str(header.get("kid") or ""))

    async def _claims(self, token: str) -> dict[str, Any]:
        settings = self.settings
        try:
            header = jwt.get_unverified_header(token)
        except PyJWTError as exc:
            raise UnauthenticatedError("the token is damaged; get a new one") from exc
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise UnauthenticatedError(
                f"tokens signed with {algorithm!r} are not taken; use {', '.join(ALGORITHMS)}"
            )
        key = await self.keys.find(str(header.get("kid") or ""), algorithm)
        required = ["exp", "iss", "aud", "sub", *(["nbf"] if settings.require_nbf else [])]
        try:
            return jwt.decode(
                token,
                key,
                algorithms=ALGORITHMS,
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_s,
                options={"require": required, "enforce_minimum_key_length": True},
            )
        except ExpiredSignatureError as exc:
            raise UnauthenticatedError("the token has expired; get a new one") from exc
        except InvalidAudienceError as exc:
            raise UnauthenticatedError(
                f"the token is for another service; ask for the audience {settings.audience}"
            ) from exc
        except (PyJWTError, ValueError) as exc:
            raise UnauthenticatedError(f"the token is not taken: {exc}") from exc


def _caller_id(issuer: str, subject: str) -> str:
    """A name for logs: the subject, or a digest where it is of no form that a log may hold."""
    if _PLAIN_SUBJECT.fullmatch(subject):
        return f"oidc:{subject}"
    return "oidc:" + hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()


def _role(claims: dict[str, Any], settings: OidcSettings) -> Role:
    found = _claim(claims, settings.role_claim)
    values = found if isinstance(found, list) else [found]
    roles = {settings.roles[v] for v in values if isinstance(v, str) and v in settings.roles}
    if not roles:
        raise PermissionDeniedError(
            f"the token's claim {settings.role_claim} gives no role here; it must hold one of "
            + ", ".join(sorted(settings.roles))
        )
    return next(role for role in reversed(RANKS) if role in roles)


def _project(claims: dict[str, Any], settings: OidcSettings) -> str:
    if not settings.project_claim:
        return DEFAULT
    found = _claim(claims, settings.project_claim)
    if not isinstance(found, str):
        # No default: whoever is of no project would see the default one's models.
        raise PermissionDeniedError(
            f"the token's claim {settings.project_claim} must name one project"
        )
    try:
        return check_project(found, field=f"token.{settings.project_claim}")
    except InvalidArgumentError as exc:
        raise PermissionDeniedError(str(exc)) from exc


def _claim(claims: dict[str, Any], path: str) -> Any:
    """A claim by its name, which may hold dots (``https://x.y/roles``), or by its path."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found
