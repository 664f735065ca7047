"""Puts the routes of the web process together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from histill.core.errors import HistillError
from histill.web import failures, files
from histill.web.credentials import Credentials
from histill.web.events import Watchers
from histill.web.guard import Guard
from histill.web.jobs_api import Jobs
from histill.web.models_api import Models
from histill.web.segmenting import Segmenting
from histill.web.session import Session
from histill.web.unread import Unread
from histill.web.upload import Places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from histill.web.backends import Backends
    from histill.web.settings import WebPart


def routes_of(backends: Backends, settings: WebPart) -> list[BaseRoute]:
    """What can be asked for."""
    credentials = Credentials(settings)
    session = Session(
        backends.access, credentials, failures_per_minute=settings.sign_in_failures_per_minute
    )
    models = Models(backends.registry, backends.inference, credentials)
    jobs = Jobs(backends.jobs, credentials, Watchers(settings.max_watchers))
    segmenting = Segmenting(
        backends.uploads,
        credentials,
        Places(settings.max_uploads),
        max_bytes=settings.max_upload_bytes,
        timeout_s=settings.timeout_s,
    )
    alias = "/api/models/{name}/aliases/{alias}"
    return [
        *files.routes(),
        Route("/api/session", session.show),
        Route("/api/session", session.sign_in, methods=["POST"]),
        Route("/api/session", session.sign_out, methods=["DELETE"]),
        Route("/api/segment", segmenting.regions, methods=["POST"]),
        Route("/api/mask", segmenting.mask, methods=["POST"]),
        Route("/api/served", models.served),
        Route("/api/models", models.list),
        Route("/api/models/{reference}", models.show),
        Route(alias, models.point, methods=["PUT"]),
        Route(alias, models.unpoint, methods=["DELETE"]),
        Route("/api/datasets", models.datasets),
        Route("/api/jobs", jobs.list),
        Route("/api/jobs", jobs.create, methods=["POST"]),
        Route("/api/jobs/{id}", jobs.show),
        Route("/api/jobs/{id}/cancel", jobs.cancel, methods=["POST"]),
        Route("/api/jobs/{id}/events", jobs.events),
        Route("/api/jobs/{id}/report", jobs.report),
    ]


def make_app(routes: Sequence[BaseRoute], settings: WebPart) -> ASGIApp:
    """The application of some routes, with all that stands around them."""
    app = Starlette(
        routes=routes,
        exception_handlers={
            HistillError: failures.answer,
            grpc.RpcError: failures.answer,
            HTTPException: failures.answer,
            ClientDisconnect: failures.nobody,
            Exception: failures.fault,
        },
    )
    hosts = TrustedHostMiddleware(
        app, allowed_hosts=list(settings.allowed_hosts), www_redirect=False
    )
    # Around Starlette's own, so that its answer to a fault of ours is guarded too.
    return Unread(Guard(hosts))
