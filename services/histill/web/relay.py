"""An image on its way to the inference service, and what comes back, at the same time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
from starlette.requests import ClientDisconnect

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from histill.web.backends import Service
    from histill.web.credentials import Credential
    from histill.web.upload import Upload


# Where a write meets a call that the service has just ended, grpc.aio tells this in place of what
# the service said: https://github.com/grpc/grpc/issues/36066.
_UNTOLD = "Internal error from Core"
_UNTOLD_S = 1.0


class Relay:
    """The answers of a call whose request is being sent meanwhile.

    Args:
        call: Of SegmentLarge, begun.
        service: Knows what its errors mean.
        credential: Whose call it is.
    """

    def __init__(self, call: Any, service: Service, credential: Credential) -> None:
        self._call = call
        self._service = service
        self._credential = credential
        self._told: asyncio.Future[grpc.RpcError] = asyncio.get_running_loop().create_future()
        call.add_done_callback(self._note)

    async def next(self) -> pb.SegmentLargeResponse | None:
        """The next answer; ``None`` at the end.

        Raises:
            HistillError: What the service says instead.
            ClientDisconnect: Who sent the image has gone, and the call was cancelled.
        """
        try:
            answer = await self._call.read()
        except grpc.RpcError as exc:
            raise self._service.failed(await self._said(exc), self._credential) from exc
        except asyncio.CancelledError:
            # gRPC raises it for a call that was cancelled, too.
            task = asyncio.current_task()
            if task is None or task.cancelling() or not self._call.cancelled():
                raise
            raise ClientDisconnect from None
        return None if answer is grpc.aio.EOF else answer

    def _note(self, call: Any) -> None:
        """Notes what the service said: a write that fails after that would hide it."""
        code, details = _at_once(call.code()), _at_once(call.details())
        if details == _UNTOLD or self._told.done():
            return
        trailers = _at_once(call.trailing_metadata()) or grpc.aio.Metadata()
        said = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details)
        self._told.set_result(said)

    async def _said(self, exc: grpc.RpcError) -> grpc.RpcError:
        if not isinstance(exc, grpc.Call) or exc.details() != _UNTOLD:
            return exc
        await asyncio.wait({self._told}, timeout=_UNTOLD_S)
        return self._told.result() if self._told.done() else exc


@asynccontextmanager
async def relayed(
    service: Service,
    header: pb.SegmentLargeHeader,
    upload: Upload,
    credential: Credential,
    *,
    timeout_s: float,
) -> AsyncIterator[Relay]:
    """Sends an image for as long as the block runs; the call ends with it.

    Args:
        service: The inference service.
        header: What to do; gets the upload's size.
        upload: The image.
        credential: Whose call it is.
        timeout_s: Longest time for all of it.

    Raises:
        UnauthenticatedError: Who shows no credential was refused a moment ago.
    """
    header.size_bytes = upload.size
    call = service.open("SegmentLarge", credential, timeout_s=timeout_s)
    feeding = asyncio.create_task(_feed(call, header, upload))
    try:
        yield Relay(call, service, credential)
    finally:
        call.cancel()
        feeding.cancel()
        with suppress(asyncio.CancelledError):
            await feeding


async def _feed(call: Any, header: pb.SegmentLargeHeader, upload: Upload) -> None:
    """Sends the image, then waits; a sender who goes away ends the call at once."""
    try:
        await call.write(pb.SegmentLargeRequest(header=header))
        async for piece in upload.pieces():
            await call.write(pb.SegmentLargeRequest(chunk=piece))
        await call.done_writing()
        await upload.gone()
    except (grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
        return  # it has ended, and who reads hears why
    except ClientDisconnect:
        pass
    call.cancel()


def _at_once(answer: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine gives that need not wait for anything."""
    try:
        answer.send(None)
    except StopIteration as done:
        return done.value
    answer.close()
    return None
