"""The three services, called with the credential of whoever asks the page."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc

from histill.api.access.v1 import access_service_pb2_grpc as access_rpc
from histill.api.distillation.v1 import distillation_service_pb2_grpc as jobs_rpc
from histill.api.registry.v1 import registry_service_pb2_grpc as registry_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as segmentation_rpc
from histill.core.errors import HistillError, ResourceExhaustedError, UnauthenticatedError
from histill.rpc.channel import ChannelTls, channel
from histill.web.rephrasing import rephrased

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from histill.web.credentials import Credential
    from histill.web.settings import WebPart

# By default two minutes lie between two tries to reach a service that has been away for long.
_BACK_SOON = ("grpc.max_reconnect_backoff_ms", 3_000)
# To send a file again, gRPC would have to keep it. With a bound to what it keeps, a refusal in the
# middle of a file ends the whole process: https://github.com/grpc/grpc/issues/40283. The page asks
# again by itself.
_NEVER_AGAIN = ("grpc.enable_retries", 0)
# For how long a refusal of those who show no credential holds. Asked each time, the service would
# count each as a failure of this process's address.
_REFUSED_S = 15.0


class Service:
    """One service.

    Args:
        name: For people.
        stub: Its methods.
        timeout_s: Longest wait for an answer.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        stub: Any,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._stub = stub
        self._timeout_s = timeout_s
        self._clock = clock
        self._refused_until = 0.0

    async def ask(
        self,
        method: str,
        request: Message,
        credential: Credential,
        *,
        timeout_s: float | None = None,
    ) -> Any:
        """The answer to one message.

        Args:
            method: Its name.
            request: The message.
            credential: Whose call it is.
            timeout_s: Where less than the settings' time makes sense.

        Raises:
            HistillError: What the service says, in words for people.
        """
        limit_s = min(self._timeout_s, timeout_s or self._timeout_s)
        call = self.open(method, credential, request, timeout_s=limit_s)
        try:
            return await call
        except grpc.RpcError as exc:
            raise self.failed(exc, credential) from exc

    def open(
        self,
        method: str,
        credential: Credential,
        *request: Message,
        timeout_s: float | None = None,
    ) -> Any:
        """A call, for who reads it; ``failed`` says what its errors mean.

        Raises:
            UnauthenticatedError: Who shows no credential was refused a moment ago.
        """
        if not credential.token and self._clock() < self._refused_until:
            raise _stranger()
        return getattr(self._stub, method)(
            *request, metadata=credential.metadata, timeout=timeout_s
        )

    def failed(self, exc: grpc.RpcError, credential: Credential) -> HistillError:
        """What a failed call means, in words for people."""
        found = rephrased(exc, self.name)
        if credential.token:
            return found
        known = self._clock() < self._refused_until + _REFUSED_S
        if isinstance(found, UnauthenticatedError) or (
            # As of an address with too many wrong credentials.
            known and isinstance(found, ResourceExhaustedError)
        ):
            self._refused_until = self._clock() + _REFUSED_S
            return _stranger()
        return found


class Backends:
    """The services; each call has a time limit.

    Attributes:
        uploads: The inference service, for files.

    Args:
        settings: Where they are.
    """

    def __init__(self, settings: WebPart) -> None:
        tls = ChannelTls(settings.ca_file, settings.certificate, settings.key)
        self._channels: list[grpc.aio.Channel] = []

        def service(name: str, target: str, stub: Any, *further: tuple[str, Any]) -> Service:
            made = channel(target, tls=tls, further=(_BACK_SOON, *further))
            self._channels.append(made)
            return Service(name, stub(made), timeout_s=settings.timeout_s)

        self.jobs = service("jobs service", settings.jobs, jobs_rpc.DistillationServiceStub)
        self.registry = service("registry", settings.registry, registry_rpc.RegistryServiceStub)
        self.access = service("registry", settings.registry, access_rpc.AccessServiceStub)
        stub, place = segmentation_rpc.SegmentationServiceStub, settings.inference
        self.inference = service("inference service", place, stub)
        self.uploads = service("inference service", place, stub, _NEVER_AGAIN)

    async def close(self) -> None:
        """Closes the channels."""
        for each in self._channels:
            await each.close()


def _stranger() -> UnauthenticatedError:
    return UnauthenticatedError(
        "sign in with an API key; an admin makes one with histill keys create"
    )
