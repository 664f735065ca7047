"""Every method of our services, from their descriptors, and one way to call any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from histill.api.access.v1 import access_service_pb2
from histill.api.distillation.v1 import distillation_service_pb2
from histill.api.inference.v2 import grpc_service_pb2
from histill.api.privacy.v1 import privacy_service_pb2
from histill.api.registry.v1 import registry_service_pb2
from histill.api.segmentation.v1 import segmentation_service_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.descriptor import Descriptor, FileDescriptor

FILES = {
    "jobs": (distillation_service_pb2.DESCRIPTOR, privacy_service_pb2.DESCRIPTOR),
    "registry": (registry_service_pb2.DESCRIPTOR, access_service_pb2.DESCRIPTOR),
    "inference": (segmentation_service_pb2.DESCRIPTOR, grpc_service_pb2.DESCRIPTOR),
}
REQUEST_ID = "x-request-id"


@dataclass(frozen=True)
class Method:
    """One RPC.

    Attributes:
        path: ``/package.Service/Method``.
        request: Descriptor of what is sent.
        takes_stream: Whether more than one message may be sent.
    """

    path: str
    request: Descriptor
    takes_stream: bool


def methods_of(process: str) -> list[Method]:
    """Those of ``jobs``, ``registry`` or ``inference``."""
    return [
        Method(f"/{service.full_name}/{method.name}", method.input_type, method.client_streaming)
        for file in FILES[process]
        for service in _services(file)
        for method in service.methods
    ]


def _services(file: FileDescriptor) -> Iterable[Any]:
    return file.services_by_name.values()


@dataclass(frozen=True)
class Outcome:
    """All that a caller learns from a call.

    Attributes:
        code: Its status.
        details: The status's words.
        trailers: What comes with the status, by name.
        answers: Serialised messages.
    """

    code: grpc.StatusCode
    details: str
    trailers: tuple[tuple[str, bytes], ...]
    answers: tuple[bytes, ...]

    def all_bytes(self) -> bytes:
        """Everything in it, to look for something in."""
        trailers = [part for name, value in self.trailers for part in (name.encode(), value)]
        return b"\n".join(
            [self.code.name.encode(), self.details.encode(), *trailers, *self.answers]
        )


def call(
    channel: grpc.Channel,
    path: str,
    requests: Iterable[bytes],
    *,
    key: str = "",
    timeout: float = 10.0,
    take: int = 1000,
) -> Outcome:
    """Calls any method; on the wire, one message is a stream of one.

    Args:
        channel: To the process.
        path: ``/package.Service/Method``.
        requests: Serialised; no message at all, or several, where one is due, can be sent too.
        key: An API key.
        timeout: Seconds.
        take: So many answers; then the call is cancelled.
    """
    metadata = ((REQUEST_ID, "0" * 32), *([("authorization", f"Bearer {key}")] if key else []))
    answers: list[bytes] = []
    begin: Any = channel.stream_stream(path)
    running = begin(iter(requests), timeout=timeout, metadata=metadata)
    try:
        for answer in running:
            answers.append(answer)
            if len(answers) == take:
                running.cancel()
                break
    except grpc.RpcError:
        pass  # its status is asked for below
    trailers = tuple(
        (name, value if isinstance(value, bytes) else value.encode())
        for name, value in running.trailing_metadata() or ()
    )
    return Outcome(running.code(), running.details() or "", trailers, tuple(answers))
