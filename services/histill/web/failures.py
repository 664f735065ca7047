"""What goes wrong in a service becomes an HTTP status and a JSON message."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import grpc
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from histill.core import errors
from histill.rpc.statuses import from_rpc_error
from histill.web.files import missing

if TYPE_CHECKING:
    from starlette.requests import Request

# A class stands for its subclasses that have no row of their own.
STATUSES: dict[type[errors.HistillError], int] = {
    errors.HistillError: 502,
    errors.InvalidArgumentError: 400,
    errors.NotFoundError: 404,
    errors.AlreadyExistsError: 409,
    errors.FailedPreconditionError: 409,
    errors.UnauthenticatedError: 401,
    errors.PermissionDeniedError: 403,
    errors.ResourceExhaustedError: 413,
    errors.DeadlineExceededError: 504,
    errors.CorruptArtifactError: 502,
    errors.UnavailableError: 503,
}
# How other errors say which field of a job they are about, such as a dataset that is not there.
_NAMED = re.compile(r"(?P<field>job(?:\.\w+|\[\d+\])+): (?P<words>.*)", re.DOTALL)
_BUSY = 429
# As nginx counts requests whose sender did not wait for the answer; nobody reads it.
_GONE = 499
_NOT_FOUND = 404


def status_of(exc: errors.HistillError) -> int:
    """The HTTP status of an error: its own class's, else its nearest ancestor's."""
    if isinstance(exc, errors.ResourceExhaustedError) and exc.retry_after_s is not None:
        return _BUSY
    return next(STATUSES[kind] for kind in type(exc).__mro__ if kind in STATUSES)


def as_json(exc: errors.HistillError) -> dict[str, object]:
    """The body of an answer that tells an error."""
    body: dict[str, object] = {"kind": type(exc).__name__, "message": str(exc)}
    if isinstance(exc, errors.InvalidArgumentError):
        body["fields"] = [{"field": v.field, "message": v.description} for v in exc.violations]
    elif named := _NAMED.match(str(exc)):
        body["fields"] = [{"field": named["field"], "message": named["words"]}]
    if isinstance(exc, errors.WorkFailedError):
        body["hint"] = exc.hint
    return {"error": body}


def answer(request: Request, exc: Exception) -> Response:
    """Answers for a ``HistillError``, a ``grpc.RpcError`` or an ``HTTPException``."""
    if isinstance(exc, HTTPException):
        if exc.status_code == _NOT_FOUND and (page := missing(request)):
            return page
        body = {"error": {"kind": "HttpError", "message": exc.detail}}
        return JSONResponse(body, exc.status_code, exc.headers)
    found = from_rpc_error(exc) if isinstance(exc, grpc.RpcError) else exc
    if not isinstance(found, errors.HistillError):
        raise exc
    headers = {}
    if isinstance(found, errors.ResourceExhaustedError) and found.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(found.retry_after_s)))
    return JSONResponse(as_json(found), status_of(found), headers)


def nobody(_: Request, __: Exception) -> Response:
    """Answers a sender who has gone."""
    return Response(status_code=_GONE)


def fault(_: Request, exc: Exception) -> Response:
    """Answers for a fault of our own, which the log has."""
    words = "the page's server failed; its log says why"
    return JSONResponse({"error": {"kind": type(exc).__name__, "message": words}}, 500)
