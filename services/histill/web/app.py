"""The routes of the web process."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.core.errors import HistillError, InvalidArgumentError
from histill.core.json_form import as_dict
from histill.ml.colors import color
from histill.web import events, failures
from histill.web.guard import Guard
from histill.web.uploads import Uploads

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from histill.web.backends import Backends
    from histill.web.settings import WebPart

_STATIC = Path(__file__).parent / "static"
# What the page offers: a name, ours of the format, and the media type.
_FORMATS = {
    "png": (pb.MASK_FORMAT_PNG, "image/png"),
    "geojson": (pb.MASK_FORMAT_GEOJSON, "application/geo+json"),
    "rle": (pb.MASK_FORMAT_RLE, "application/json"),
    "dicom-seg": (pb.MASK_FORMAT_DICOM_SEG, "application/dicom"),
}
_PAGE_SIZE = 50


def make_app(backends: Backends, settings: WebPart) -> Starlette:
    """The application over the three services."""
    routes = Routes(
        backends,
        Uploads(
            max_bytes=settings.max_upload_bytes,
            at_once=settings.max_uploads,
            seconds=settings.upload_s,
        ),
        events.Watchers(settings.max_watchers),
    )
    return Starlette(
        routes=[
            Route("/", routes.page),
            Route("/healthz", routes.healthz),
            Route("/api/models", routes.models),
            Route("/api/models/{reference}", routes.model),
            Route("/api/segment", routes.segment, methods=["POST"]),
            Route("/api/jobs", routes.jobs),
            Route("/api/jobs/{id}/events", routes.job_events),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[
            Middleware(Guard),
            Middleware(
                TrustedHostMiddleware,
                allowed_hosts=list(settings.allowed_hosts),
                www_redirect=False,
            ),
        ],
        exception_handlers={
            HistillError: failures.answer,
            grpc.RpcError: failures.answer,
            HTTPException: failures.answer,
        },
    )


class Routes:
    """One method a route.

    Args:
        backends: The services.
        uploads: Reads forms.
        watchers: Counts those who follow jobs.
    """

    def __init__(self, backends: Backends, uploads: Uploads, watchers: events.Watchers) -> None:
        self._backends = backends
        self._uploads = uploads
        self._watchers = watchers

    async def page(self, _: Request) -> Response:
        """The page."""
        return FileResponse(_STATIC / "index.html")

    async def healthz(self, _: Request) -> Response:
        """The process answers; what the services do shows on the page."""
        return JSONResponse({"status": "ok"})

    async def models(self, _: Request) -> Response:
        """The models that can be asked for."""
        return JSONResponse(as_dict(await self._backends.models()))

    async def model(self, request: Request) -> Response:
        """What the registry knows of one model, such as its measures."""
        found = await self._backends.model(request.path_params["reference"])
        return JSONResponse(as_dict(found.model))

    async def segment(self, request: Request) -> Response:
        """Segments the ``image`` of a multipart form with ``model`` and, maybe, ``format``."""
        async with self._uploads.read(request) as upload:
            name = upload.fields.get("format", "png")
            if name not in _FORMATS:
                raise InvalidArgumentError.of("format", f"must be one of {', '.join(_FORMATS)}")
            form, media_type = _FORMATS[name]
            found = await self._backends.segment(
                upload.image, model=upload.fields.get("model", ""), form=form
            )
        summary = as_dict(found.summary)
        for each in summary["classes"]:
            each["color"] = color(each["index"])
        mask = base64.b64encode(found.mask).decode()
        return JSONResponse({"summary": summary, "mask": mask, "media_type": media_type})

    async def jobs(self, request: Request) -> Response:
        """A page of jobs, newest first; ``page_token`` asks for the next."""
        token = request.query_params.get("page_token", "")
        return JSONResponse(
            as_dict(await self._backends.jobs(page_size=_PAGE_SIZE, page_token=token))
        )

    async def job_events(self, request: Request) -> Response:
        """Events of a job as they happen, from the one after ``Last-Event-ID``."""
        name, after = f"jobs/{request.path_params['id']}", request.headers.get("last-event-id", "")
        self._watchers.check()
        told = self._watchers.counted(lambda: self._backends.watch(name, after=after))
        return StreamingResponse(told, media_type="text/event-stream")
