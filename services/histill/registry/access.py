"""The RPCs of the access service: who may make keys for whom, and who calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histill.api.access.v1 import access_service_pb2 as pb
from histill.api.access.v1 import access_service_pb2_grpc as rpc
from histill.core import access
from histill.core.errors import InvalidArgumentError, PermissionDeniedError
from histill.core.messages import timestamp
from histill.core.projects import check_project
from histill.registry.paging import DEFAULT_PAGE, MAX_PAGE
from histill.rpc.interceptor import current_caller
from histill.rpc.roles import RANKS

if TYPE_CHECKING:
    from datetime import timedelta

    import grpc

    from histill.core.access import AccessKey
    from histill.core.clock import Clock
    from histill.core.ports import ObjectStore
    from histill.core.service_settings import Role
    from histill.rpc.auth import Caller

    Context = grpc.aio.ServicerContext[Any, Any]

# ruff: noqa: N802 - the API's names

_ROLES: dict[pb.KeyRole.ValueType, Role] = {
    pb.KEY_ROLE_VIEWER: "viewer",
    pb.KEY_ROLE_OPERATOR: "operator",
    pb.KEY_ROLE_ADMIN: "admin",
}
_NUMBERS = {role: number for number, role in _ROLES.items()}


@dataclass(frozen=True)
class AccessServicer(rpc.AccessServiceServicer):
    """Serves ``AccessService`` over the whole store; everything that blocks runs in threads."""

    objects: ObjectStore
    clock: Clock
    seal: bytes | None = None

    async def CreateKey(
        self, request: pb.CreateKeyRequest, context: Context
    ) -> pb.CreateKeyResponse:
        """Makes a key."""
        del context
        caller = current_caller()
        key, secret = await asyncio.to_thread(
            access.create,
            self.objects,
            role=_role(request.role, caller),
            project=_project(request.project, caller) or caller.project,
            description=request.description,
            ttl=_ttl(request),
            creator=caller.id,
            now=self.clock(),
            seal=self.seal,
        )
        return pb.CreateKeyResponse(key=_message(key), secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        """A page of keys."""
        del context
        if not 0 <= request.page_size <= MAX_PAGE:
            raise InvalidArgumentError.of("page_size", f"must be from 0 to {MAX_PAGE}")
        caller = current_caller()
        project = _project(request.project, caller)
        every = await asyncio.to_thread(
            access.every, self.objects, skipped=lambda *_: None, seal=self.seal
        )
        keys = [key for key in every if not project or key.project == project]
        if request.page_token:
            keys = keys[_after(keys, request.page_token) :]
        size = request.page_size or DEFAULT_PAGE
        token = keys[size - 1].id if len(keys) > size else ""
        return pb.ListKeysResponse(keys=map(_message, keys[:size]), next_page_token=token)

    async def RevokeKey(
        self, request: pb.RevokeKeyRequest, context: Context
    ) -> pb.RevokeKeyResponse:
        """Ends a key."""
        del context
        caller = current_caller()
        key = await asyncio.to_thread(
            access.revoke,
            self.objects,
            request.key_id,
            now=self.clock(),
            may=lambda key: caller.root or key.project == caller.project,
            seal=self.seal,
        )
        return pb.RevokeKeyResponse(key=_message(key))

    async def GetCaller(
        self, request: pb.GetCallerRequest, context: Context
    ) -> pb.GetCallerResponse:
        """Who calls, as the gate has found out; nothing is looked up."""
        del request, context
        caller = current_caller()
        return pb.GetCallerResponse(
            caller_id=caller.id, role=_NUMBERS[caller.role], project=caller.project
        )


def _role(number: pb.KeyRole.ValueType, caller: Caller) -> Role:
    if number not in _ROLES:
        raise InvalidArgumentError.of("role", "must be viewer, operator or admin")
    role = _ROLES[number]
    if RANKS[role] > RANKS[caller.role]:
        raise PermissionDeniedError(f"you may make keys up to your own role, {caller.role}")
    return role


def _project(asked: str, caller: Caller) -> str:
    """The project that is asked for; empty: every one, which only a root caller can mean."""
    if not asked:
        return "" if caller.root else caller.project
    check_project(asked, field="project")
    if not caller.root and asked != caller.project:
        raise PermissionDeniedError(
            f"project: {asked} is not yours; an admin whose key stands in the services' settings "
            "makes keys for every project"
        )
    return asked


def _ttl(request: pb.CreateKeyRequest) -> timedelta | None:
    if not request.HasField("ttl"):
        return None
    try:
        ttl: timedelta = request.ttl.ToTimedelta()
    except (ValueError, OverflowError) as exc:
        raise InvalidArgumentError.of("ttl", "is no duration of at most ten years") from exc
    return ttl


def _after(keys: list[AccessKey], token: str) -> int:
    for index, key in enumerate(keys):
        if key.id == token:
            return index + 1
    raise InvalidArgumentError.of("page_token", "is not of a page before; begin without one")


def _message(key: AccessKey) -> pb.Key:
    return pb.Key(
        key_id=key.id,
        role=_NUMBERS[key.role],
        project=key.project,
        description=key.description,
        creator=key.creator,
        create_time=timestamp(key.create_time),
        expire_time=timestamp(key.expire_time),
        revoke_time=timestamp(key.revoke_time),
    )
