"""SegmentationService over gRPC: messages in and out, and nothing else."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Any

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from histill.core.errors import FieldViolation, InvalidArgumentError, TooLargeForOneMessageError
from histill.inference.answers import messages, summary
from histill.inference.call import call_of
from histill.inference.outbox import Outbox, ends_unless_taken
from histill.inference.regions import RegionForm
from histill.inference.requests import Request
from histill.ml import geojson, images
from histill.ml.geojson import Outlines
from histill.ml.images import MAX_FRAMES, MAX_LEVEL, Selection
from histill.ml.masks import Format
from histill.rpc import audit
from histill.rpc.interceptor import current_caller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import BinaryIO

    import grpc

    from histill.inference.findings import News
    from histill.inference.listing import Listing
    from histill.inference.segmenter import Segmenter
    from histill.inference.uploads import Uploads

    Context = grpc.aio.ServicerContext[Any, Any]

_FORMATS = {
    pb.MASK_FORMAT_UNSPECIFIED: Format.PNG,
    pb.MASK_FORMAT_PNG: Format.PNG,
    pb.MASK_FORMAT_GEOJSON: Format.GEOJSON,
    pb.MASK_FORMAT_RLE: Format.RLE,
    pb.MASK_FORMAT_DICOM_SEG: Format.DICOM_SEG,
    pb.MASK_FORMAT_RAW: Format.RAW,
}
# What a message holds besides its mask.
HEADROOM_BYTES = 64 << 10
_WAITING_PIECES = 4


class SegmentationServicer(rpc.SegmentationServiceServicer):
    """Segments images and lists models.

    Args:
        segmenter: Does the work.
        listing: Knows the models.
        uploads: Holds streamed files.
        max_pixels: Most rows times columns of a raw image.
        max_message_bytes: Of an answer.
        idle_s: Longest wait for a client to take the next part of a stream.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        listing: Listing,
        uploads: Uploads,
        *,
        max_pixels: int,
        max_message_bytes: int,
        idle_s: float,
    ) -> None:
        self._idle_s = idle_s
        self._segmenter = segmenter
        self._listing = listing
        self._uploads = uploads
        self._max_pixels = max_pixels
        self._max_answer = max_message_bytes - HEADROOM_BYTES

    async def Segment(self, request: pb.SegmentRequest, context: Context) -> pb.SegmentResponse:  # noqa: N802
        """As the proto says."""
        pieces: list[bytes] = []

        async def keep(piece: News) -> None:
            if isinstance(piece, bytes):
                pieces.append(piece)

        answer = await self._segmenter.segment(
            Request(
                model=request.model,
                source=self._source(request),
                form=_form(request.format),
                call=call_of(context, urgent=_urgent(request.priority)),
                selection=_selection(request.selection),
                confidence_map=request.confidence_map,
                pixel_size_um=images.pixel_size(request.pixel_size_um),
                outlines=_outlines(request.geojson),
                empty_frames=request.empty_frames,
            ),
            keep,
        )
        audit.note_model(answer.manifest)
        mask, confidence_map = b"".join(pieces), answer.found.confidence_map
        if len(mask) + len(confidence_map) > self._max_answer:
            raise TooLargeForOneMessageError(
                "the answer does not fit one message; call SegmentLarge, or ask for another format"
            )
        return pb.SegmentResponse(
            mask=mask, summary=summary(answer, request.format), confidence_map=confidence_map
        )

    async def SegmentLarge(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.SegmentLargeRequest], context: Context
    ) -> AsyncIterator[pb.SegmentLargeResponse]:
        """As the proto says."""
        parts = aiter(request_iterator)
        first = await anext(parts, None)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidArgumentError.of("header", "the first message must be the header")
        header = first.header
        form = _large_form(header)
        # Before the upload: what is wrong here need not wait for gigabytes.
        outlines, pixel_um = _outlines(header.geojson), images.pixel_size(header.pixel_size_um)
        selection = _selection(header.selection)
        call = call_of(context, urgent=_urgent(header.priority))
        await self._segmenter.prepare(header.model, call)
        project = current_caller().project
        received = self._uploads.receive(_chunks(parts), header.size_bytes, project=project)
        async with received as file:
            request = Request(
                header.model,
                file,
                form,
                call,
                selection=selection,
                whole=False,
                pixel_size_um=pixel_um,
                outlines=outlines,
                empty_frames=header.empty_frames,
            )
            news: Outbox[News] = Outbox(most=_WAITING_PIECES)
            work = asyncio.create_task(self._segmenter.segment(request, news.put))
            work.add_done_callback(lambda _: news.close())
            try:
                async for piece in news.taken():
                    for message in messages(piece):
                        with ends_unless_taken(context, self._idle_s):
                            yield message
                answer = await work
            finally:
                work.cancel()
        audit.note_model(answer.manifest)
        yield pb.SegmentLargeResponse(summary=summary(answer, header.format))

    async def ListModels(  # noqa: N802
        self,
        request: pb.ListModelsRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - nothing of it matters here
    ) -> pb.ListModelsResponse:
        """As the proto says."""
        return pb.ListModelsResponse(
            models=[
                pb.ServedModel(
                    reference=each.manifest.reference,
                    aliases=each.aliases,
                    classes=each.manifest.classes,
                    channels=each.manifest.channels,
                    loaded=each.loaded,
                    parameters=each.manifest.parameters,
                )
                for each in await self._listing.served(current_caller().project)
            ]
        )

    def _source(self, request: pb.SegmentRequest) -> BinaryIO | images.Image:
        match request.WhichOneof("image"):
            case "encoded":
                return io.BytesIO(request.encoded)
            case "raw":
                raw = request.raw
                return images.from_raw(
                    raw.data,
                    height=raw.height,
                    width=raw.width,
                    channels=raw.channels,
                    max_pixels=self._max_pixels,
                )
        raise InvalidArgumentError.of("image", "there is none; set encoded or raw")


def _urgent(value: pb.Priority.ValueType) -> bool:
    if value not in pb.Priority.values():
        raise InvalidArgumentError.of("priority", f"{value} is not a priority")
    return value == pb.PRIORITY_STAT


def _outlines(options: pb.GeoJsonOptions) -> Outlines:
    return geojson.checked(Outlines(options.tolerance, options.gzip, options.micrometres))


def _form(value: pb.MaskFormat.ValueType) -> Format:
    if value not in _FORMATS:
        raise InvalidArgumentError.of("format", f"{value} is not a mask format")
    return _FORMATS[value]


def _large_form(header: pb.SegmentLargeHeader) -> Format | RegionForm:
    form = _form(header.format)
    if header.regions:
        return RegionForm(header.picture, header.confidence_map)
    asked = {"picture": header.picture, "confidence_map": header.confidence_map}
    wrong = [name for name, value in asked.items() if value]
    if wrong:
        words = "comes with regions only; set regions too, or leave it out"
        raise InvalidArgumentError(*(FieldViolation(name, words) for name in wrong))
    return form


def _selection(chosen: pb.Selection) -> Selection:
    for name, value, most in (
        ("frame", chosen.frame, MAX_FRAMES),
        ("level", chosen.level, MAX_LEVEL),
    ):
        if not 0 <= value <= most:
            raise InvalidArgumentError.of(f"selection.{name}", f"{value} is not in [0, {most}]")
    return Selection(chosen.frame, chosen.level)


async def _chunks(parts: AsyncIterator[pb.SegmentLargeRequest]) -> AsyncIterator[bytes]:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise InvalidArgumentError.of("chunk", "after the header, every message is a chunk")
        yield part.chunk
