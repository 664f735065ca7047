"""Segmentation of an uploaded image: as lines of JSON as it gets ready, or as a file."""

from __future__ import annotations

import base64
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.client.segmentation import large_timeout_s
from histill.core.errors import HistillError, InvalidArgumentError
from histill.core.json_form import as_dict
from histill.ml.colors import color
from histill.web import failures
from histill.web.attempts import address_in
from histill.web.credentials import Source
from histill.web.parameters import flag, number, whole
from histill.web.relay import relayed
from histill.web.upload import Places, Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from histill.web.backends import Service
    from histill.web.credentials import Credential, Credentials
    from histill.web.relay import Relay

log = structlog.get_logger()
# What a mask may be written as: the format, its media type, the end of a file's name.
_FORMATS = {
    "png": (pb.MASK_FORMAT_PNG, "image/png", "png"),
    "geojson": (pb.MASK_FORMAT_GEOJSON, "application/geo+json", "geojson"),
    "rle": (pb.MASK_FORMAT_RLE, "application/json", "json"),
    "dicom-seg": (pb.MASK_FORMAT_DICOM_SEG, "application/dicom", "dcm"),
}


class Segmenting:
    """The routes of ``/api/segment`` and ``/api/mask``.

    Args:
        inference: Segments.
        credentials: Whose call it is.
        places: Images in work at a time.
        max_bytes: Of one.
        timeout_s: Longest wait for an answer; large files have more.
    """

    def __init__(
        self,
        inference: Service,
        credentials: Credentials,
        places: Places,
        *,
        max_bytes: int,
        timeout_s: float,
    ) -> None:
        self._inference = inference
        self._credentials = credentials
        self._places = places
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s

    async def regions(self, request: Request) -> Response:
        """The mask region by region, a JSON object a line, and the summary at last."""
        asked = request.query_params
        header = _header(
            asked,
            regions=True,
            picture=flag(asked, "picture"),
            confidence_map=flag(asked, "confidence_map"),
        )

        async def sent(send: Send) -> None:
            async with self._relay(request, header) as relay:
                answer = await relay.next()
                await send(_start("application/x-ndjson"))
                try:
                    while answer is not None:
                        if told := as_json(answer):
                            await send(_line(told))
                        answer = await relay.next()
                except ClientDisconnect:
                    return
                except HistillError as exc:
                    await send(_line(failures.as_json(exc)))
                await send(_END)

        return _Sent(sent)

    async def mask(self, request: Request) -> Response:
        """The mask as a file."""
        name = request.query_params.get("format", "png")
        if name not in _FORMATS:
            raise InvalidArgumentError.of("format", f"must be one of {', '.join(_FORMATS)}")
        form, media_type, ending = _FORMATS[name]
        header = _header(request.query_params, format=form)
        start = _start(media_type, file=f"{_plain(header.model)}-mask.{ending}")

        async def sent(send: Send) -> None:
            async with self._relay(request, header) as relay:
                chunk = await _chunk(relay)
                await send(start)
                try:
                    while chunk:
                        await send(_body(chunk))
                        chunk = await _chunk(relay)
                except ClientDisconnect:
                    return
                except HistillError as exc:
                    # Without its end the answer is no file, and browsers say so.
                    log.warning("mask_broke_off", error=str(exc), kind=type(exc).__name__)
                    return
                await send(_END)

        return _Sent(sent)

    @asynccontextmanager
    async def _relay(self, request: Request, header: pb.SegmentLargeHeader) -> AsyncIterator[Relay]:
        credential = self._credentials.of(request)
        upload = Upload(request, most=self._max_bytes)
        timeout_s = large_timeout_s(self._timeout_s, upload.size)
        with self._places.one(_caller(request, credential)):
            async with relayed(
                self._inference, header, upload, credential, timeout_s=timeout_s
            ) as relay:
                yield relay


def _caller(request: Request, credential: Credential) -> str:
    """Whose images count together: of those who show no key of their own, an address's."""
    own = credential.source in {Source.HEADER, Source.COOKIE}
    return credential.token if own else address_in(request)


class _Sent(Response):
    """An answer that is sent while it is made; errors before its start are as any route's."""

    def __init__(self, sent: Callable[[Send], Awaitable[None]]) -> None:
        self._sent = sent

    async def __call__(self, _: Scope, __: Receive, send: Send) -> None:
        await self._sent(send)


def as_json(answer: pb.SegmentLargeResponse) -> dict[str, Any]:
    """An answer as the page reads it: pictures in base64, classes with their colours.

    Empty for what was not asked for, or what only a later version knows.
    """
    match answer.WhichOneof("part"):
        case "size":
            return {"size": as_dict(answer.size)}
        case "progress":
            return {"progress": answer.progress}
        case "region":
            return {"region": _region(answer.region)}
        case "summary":
            summary = as_dict(answer.summary)
            for each in summary["classes"]:
                each["color"] = color(each["index"])
            return {"summary": summary}
    return {}


def _region(region: pb.MaskRegion) -> dict[str, Any]:
    found: dict[str, Any] = {
        "row": region.row,
        "column": region.column,
        "height": region.height,
        "width": region.width,
        "mask": _text(region.png),
    }
    for name in ("picture", "confidence_map"):
        if data := getattr(region, name):
            found[name] = _text(data)
    return found


async def _chunk(relay: Relay) -> bytes:
    """The next bytes of the file; none at its end."""
    while (answer := await relay.next()) is not None:
        if answer.mask_chunk:
            return answer.mask_chunk
    return b""


def _header(asked: Mapping[str, str], **also: Any) -> pb.SegmentLargeHeader:
    if not asked.get("model"):
        raise InvalidArgumentError.of("model", "is missing; choose a model")
    return pb.SegmentLargeHeader(
        model=asked["model"],
        pixel_size_um=number(asked, "pixel_size_um"),
        selection=pb.Selection(frame=whole(asked, "frame"), level=whole(asked, "level")),
        **also,
    )


def _start(media_type: str, *, file: str = "") -> dict[str, Any]:
    headers = [(b"content-type", media_type.encode())]
    if file:
        headers.append((b"content-disposition", f'attachment; filename="{file}"'.encode()))
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _line(value: object) -> dict[str, Any]:
    return _body(json.dumps(value, separators=(",", ":")).encode() + b"\n")


def _body(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


_END = {"type": "http.response.body", "body": b"", "more_body": False}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _plain(name: str) -> str:
    """A name as every file system takes it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)[:100].strip("-.") or "image"
