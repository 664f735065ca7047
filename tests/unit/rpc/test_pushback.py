"""When a full service is asked again, and when not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.client.segmentation import Segmenter
from histill.core.errors import HistillError, NotFoundError, ResourceExhaustedError
from histill.core.service_settings import AuthSettings
from histill.rpc.channel import sync_channel
from histill.rpc.gate import Gate
from histill.rpc.interceptor import ServerInterceptor
from histill.rpc.statuses import pushback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ASKED: list[str] = []


class Full(rpc.SegmentationServiceServicer):
    """Refuses as the requested model says."""

    async def Segment(self, request: pb.SegmentRequest, context: Any) -> pb.SegmentResponse:  # noqa: N802
        del context
        ASKED.append(request.model)
        match request.model:
            case "soon" if len(ASKED) < 3:
                raise ResourceExhaustedError("full", retry_after_s=0.05)
            case "never":
                raise ResourceExhaustedError("too large")
            case "late":
                raise ResourceExhaustedError("full", retry_after_s=60)
        return pb.SegmentResponse(mask=b"done")

    async def SegmentLarge(  # noqa: N802
        self, request_iterator: Any, context: Any
    ) -> AsyncIterator[pb.SegmentLargeResponse]:
        del request_iterator, context
        yield pb.SegmentLargeResponse()

    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:  # noqa: N802
        del request, context
        return pb.ListModelsResponse()


@pytest.fixture
async def target() -> AsyncIterator[str]:
    """A server's address."""
    server = grpc.aio.server(interceptors=[ServerInterceptor(Gate(AuthSettings(mode="none")))])
    rpc.add_SegmentationServiceServicer_to_server(Full(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


async def ask(target: str, model: str, *, size: int = 10) -> bytes | HistillError:
    def call() -> bytes | HistillError:
        with sync_channel(target, api_key="any") as channel:
            try:
                return Segmenter(channel, timeout_s=5).segment(bytes(size), model=model).mask
            except HistillError as exc:
                return exc

    ASKED.clear()
    return await asyncio.to_thread(call)


@pytest.mark.parametrize("size", [10, 3 << 20])
async def test_a_full_service_is_asked_again(target: str, size: int) -> None:
    """After the time it names, with images of any size that fit a message."""
    assert await ask(target, "soon", size=size) == b"done"
    assert len(ASKED) == 3


@pytest.mark.parametrize("model", ["never", "late"])
async def test_what_makes_no_sense_is_not_tried_again(target: str, model: str) -> None:
    """Neither what is too large, nor what would wait in silence for a minute."""
    found = await ask(target, model)
    assert isinstance(found, ResourceExhaustedError)
    assert len(ASKED) == 1
    assert found.retry_after_s == (60 if model == "late" else None)


@pytest.mark.parametrize(
    ("exc", "left_s", "expected"),
    [
        (NotFoundError("x"), None, ()),
        (ResourceExhaustedError("x"), None, (("grpc-retry-pushback-ms", "-1"),)),
        (ResourceExhaustedError("x", retry_after_s=2), None, (("grpc-retry-pushback-ms", "2000"),)),
        (ResourceExhaustedError("x", retry_after_s=2), 1.0, (("grpc-retry-pushback-ms", "-1"),)),
        (ResourceExhaustedError("x", retry_after_s=2), 0.0, (("grpc-retry-pushback-ms", "-1"),)),
        (ResourceExhaustedError("x", retry_after_s=6), None, (("grpc-retry-pushback-ms", "-1"),)),
    ],
)
def test_what_trailers_say(
    exc: HistillError, left_s: float | None, expected: tuple[tuple[str, str], ...]
) -> None:
    """A time within the deadline and a few seconds, or -1; nothing for other errors."""
    assert pushback(exc, left_s) == expected
