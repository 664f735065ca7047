"""The page itself: its document under every address that it has, and what that loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    import os

    from starlette.requests import Request
    from starlette.routing import BaseRoute
    from starlette.types import Scope

STATIC = Path(__file__).parent / "static"
# The page's own addresses, as its router knows them.
ADDRESSES = ("/", "/jobs", "/jobs/new", "/jobs/{id}", "/models", "/sign-in")
# Asked for each time, and answered with 304 while nothing has changed: an upgrade shows at once.
_KEPT = {"Cache-Control": "no-cache"}
_GZIP_LEVEL = 6


def routes() -> list[BaseRoute]:
    """Those of the page, its files and the probe."""
    static = GZipMiddleware(_Files(directory=STATIC), compresslevel=_GZIP_LEVEL)
    return [
        *(Route(address, document) for address in ADDRESSES),
        Route("/healthz", healthz),
        Mount("/static", static),
    ]


async def document(_: Request) -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html", headers=_KEPT)


async def healthz(_: Request) -> Response:
    """The process answers; what the services do shows on the page."""
    return JSONResponse({"status": "ok"})


def missing(request: Request) -> Response | None:
    """The page, to say that it has no such address; ``None`` for programs."""
    path = request.url.path
    if path.startswith(("/api/", "/static/")) or request.method not in {"GET", "HEAD"}:
        return None
    if "text/html" not in request.headers.get("accept", ""):
        return None
    return FileResponse(STATIC / "index.html", 404, headers=_KEPT)


class _Files(StaticFiles):
    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        found = super().file_response(full_path, stat_result, scope, status_code)
        found.headers.update(_KEPT)
        return found
