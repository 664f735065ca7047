"""Who is at the page: signing in and out, and what the services make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from histill.api.access.v1 import access_service_pb2 as pb
from histill.core.errors import InvalidArgumentError
from histill.web.attempts import Attempts, address_in
from histill.web.bodies import json_object
from histill.web.credentials import Credential, Source, checked

if TYPE_CHECKING:
    from starlette.requests import Request

    from histill.web.backends import Service
    from histill.web.credentials import Credentials

# The page waits for it before it shows who is there; a registry that hangs must not hold it up.
_ANSWER_S = 3.0
_MOST_BYTES = 64 << 10


class Session:
    """The routes of ``/api/session``.

    Args:
        access: Knows who calls.
        credentials: Finds and keeps them.
        failures_per_minute: Wrong keys that an address may try.
    """

    def __init__(
        self, access: Service, credentials: Credentials, *, failures_per_minute: int
    ) -> None:
        self._access = access
        self._credentials = credentials
        self._attempts = Attempts(failures_per_minute)

    async def show(self, request: Request) -> Response:
        """Who the services take this visitor for."""
        credential = self._credentials.of(request)
        told = await self._told(credential)
        return JSONResponse(told | {"signed_in": self._credentials.kept(request)})

    async def sign_in(self, request: Request) -> Response:
        """Takes a key that the services take, and has the browser keep it."""
        found = await json_object(request, most=_MOST_BYTES)
        token = found.get("token")
        if not isinstance(token, str):
            raise InvalidArgumentError.of("token", 'is missing; send {"token": KEY}')
        credential = Credential(checked(token, "token"), Source.COOKIE)
        with self._attempts.one(address_in(request)):
            told = await self._told(credential)
        response = JSONResponse(told | {"signed_in": True})
        self._credentials.keep(response, credential.token)
        return response

    async def sign_out(self, _: Request) -> Response:
        """Has the browser forget the key, which goes on being one."""
        response = Response(status_code=204)
        self._credentials.forget(response)
        return response

    async def _told(self, credential: Credential) -> dict[str, Any]:
        caller = await self._access.ask(
            "GetCaller", pb.GetCallerRequest(), credential, timeout_s=_ANSWER_S
        )
        return {
            "caller_id": caller.caller_id,
            "role": pb.KeyRole.Name(caller.role).removeprefix("KEY_ROLE_").lower(),
            "project": caller.project,
            "guest": credential.source is Source.GUEST,
        }
