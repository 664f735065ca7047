"""API keys: made, listed and revoked; and who calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf.duration_pb2 import Duration

from histill.api.access.v1 import access_service_pb2 as pb
from histill.api.access.v1 import access_service_pb2_grpc as rpc
from histill.client.calls import translated
from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    import grpc

    from histill.core.service_settings import Role

ROLES: dict[Role, pb.KeyRole.ValueType] = {
    "viewer": pb.KEY_ROLE_VIEWER,
    "operator": pb.KEY_ROLE_OPERATOR,
    "admin": pb.KEY_ROLE_ADMIN,
}


class Keys:
    """Make, list and revoke API keys, for admins; and ask who we are, for everybody.

    Args:
        channel: Channel to the registry service.
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, channel: grpc.Channel, *, timeout_s: float) -> None:
        self._stub = rpc.AccessServiceStub(channel)
        self._timeout_s = timeout_s

    def create(
        self, *, role: Role, description: str, project: str = "", ttl: timedelta | None = None
    ) -> tuple[pb.Key, str]:
        """Makes a key, which every service takes within five seconds.

        Args:
            role: What its holder may do; at most what we may.
            description: Who will hold it and what for.
            project: Whose models, datasets and jobs its holder sees; empty: ours.
            ttl: From a minute to ten years; ``None``: it does not expire.

        Returns:
            The key and its secret, which cannot be had again.

        Raises:
            InvalidArgumentError: A value is out of range.
            PermissionDeniedError: We are no admin, or of another project.
        """
        if role not in ROLES:
            raise InvalidArgumentError.of("role", f"{role!r} is none of {', '.join(ROLES)}")
        request = pb.CreateKeyRequest(role=ROLES[role], project=project, description=description)
        if ttl is not None:
            duration = Duration()
            duration.FromTimedelta(ttl)
            request.ttl.CopyFrom(duration)
        with translated():
            made = self._stub.CreateKey(request, timeout=self._timeout_s)
        return made.key, made.secret

    def list(self, *, project: str = "") -> Iterator[pb.Key]:
        """Keys, newest first, fetched page by page; expired and revoked ones too.

        Args:
            project: Only of this project; empty: every one that we may see.
        """
        request = pb.ListKeysRequest(project=project)
        while True:
            with translated():
                page = self._stub.ListKeys(request, timeout=self._timeout_s)
            yield from page.keys
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def revoke(self, key_id: str) -> pb.Key:
        """Ends a key for good, in every service within five seconds; safe to repeat.

        Raises:
            NotFoundError: Our project has no key of that id.
        """
        with translated():
            request = pb.RevokeKeyRequest(key_id=key_id)
            return self._stub.RevokeKey(request, timeout=self._timeout_s).key

    def caller(self) -> pb.GetCallerResponse:
        """Who we are to the services: under which id their logs have us, role and project.

        Raises:
            UnauthenticatedError: Our key or token is not known, or we have none.
        """
        with translated():
            return self._stub.GetCaller(pb.GetCallerRequest(), timeout=self._timeout_s)
