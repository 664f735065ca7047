"""Which credential a request carries; whether it is right, only the services know."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from histill.core.errors import InvalidArgumentError
from histill.rpc.channel import bearer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from histill.web.settings import WebPart

_SCHEME = "bearer "
# Browsers keep no cookie whose name and value are longer together.
_COOKIE_BYTES = 4096
# What the services take of all metadata, with room for the rest of it.
_MOST = 7000


class Source(Enum):
    """Where a credential comes from."""

    HEADER = auto()
    COOKIE = auto()
    GUEST = auto()
    NOWHERE = auto()


@dataclass(frozen=True)
class Credential:
    """What is sent to the services with a call.

    Attributes:
        token: An API key, or a token of the issuer; empty when there is none.
        source: Where it comes from.
    """

    token: str = field(repr=False)
    source: Source

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """As gRPC takes it."""
        return bearer(self.token)


STRANGER = Credential("", Source.NOWHERE)


class Credentials:
    """Finds a request's credential, and keeps one in a cookie.

    A bearer token of the request counts first, so that a proxy in front can sign people in. Other
    schemes are no concern of ours: a proxy that asks for a password passes that on too. A cookie
    counts before the guest's key even when it is refused: nobody becomes somebody else by it.

    Args:
        settings: The guest's key, and whether cookies go over HTTPS only.
    """

    def __init__(self, settings: WebPart) -> None:
        self._guest = Credential(settings.guest_key.get_secret_value(), Source.GUEST)
        self._secure = settings.secure_cookies
        # Of that name, browsers take a cookie from this very host over HTTPS only.
        self._name = "__Host-histill" if self._secure else "histill"

    def of(self, request: Request) -> Credential:
        """The credential of a request.

        Raises:
            InvalidArgumentError: It cannot be sent on.
        """
        header = request.headers.get("authorization", "")
        if header[: len(_SCHEME)].lower() == _SCHEME:
            return Credential(checked(header[len(_SCHEME) :], "authorization"), Source.HEADER)
        if self.kept(request):
            kept = unquote(request.cookies[self._name])
            return Credential(checked(kept, "cookie"), Source.COOKIE)
        return self._guest if self._guest.token else STRANGER

    def kept(self, request: Request) -> bool:
        """Whether the request has our cookie."""
        return bool(request.cookies.get(self._name))

    def keep(self, response: Response, token: str) -> None:
        """Has the browser send a token from now on, until it is closed or told otherwise.

        Raises:
            InvalidArgumentError: The token is too long for a cookie.
        """
        value = quote(token, safe="")
        if (size := len(self._name) + len(value)) > _COOKIE_BYTES:
            raise InvalidArgumentError.of(
                "token",
                f"is {size - _COOKIE_BYTES} characters longer than a browser keeps; sign in with "
                "an API key, or have a proxy in front of the page send the token with each request",
            )
        response.set_cookie(
            self._name, value, path="/", secure=self._secure, httponly=True, samesite="strict"
        )

    def forget(self, response: Response) -> None:
        """Has the browser drop what it keeps."""
        response.delete_cookie(
            self._name, path="/", secure=self._secure, httponly=True, samesite="strict"
        )


def checked(token: str, name: str) -> str:
    """A token without white space around it.

    Args:
        token: What was sent.
        name: For the message: where it was found.

    Raises:
        InvalidArgumentError: It is empty, too long, or has letters that no key has.
    """
    found = token.strip()
    if not found:
        raise InvalidArgumentError.of(name, "holds no key; give an API key or a token")
    if len(found) > _MOST:
        raise InvalidArgumentError.of(
            name, f"has {len(found)} characters, more than the {_MOST} that the services take"
        )
    if not (found.isascii() and found.isprintable()):
        raise InvalidArgumentError.of(name, "has letters that no key has; copy the key again")
    return found
