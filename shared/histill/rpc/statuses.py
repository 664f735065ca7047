"""The one place where our errors become gRPC statuses, and statuses our errors.

Details follow google.rpc (https://google.aip.dev/193): ErrorInfo always, BadRequest
for wrong fields, RetryInfo where a retry may help.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from histill.core import errors
from histill.core.errors import FieldViolation, HistillError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

DOMAIN = "histill"
# A status travels in trailers, which clients refuse beyond 8 KiB.
_MESSAGE_BYTES = 800
_DETAIL_BYTES = 400
_VIOLATIONS_BYTES = 2000
_LONGEST_PUSHBACK_S = 5.0

# It has a call's code, details and metadata, but only blocking calls say they are calls.
grpc.Call.register(grpc.aio.AioRpcError)

# A class stands for its subclasses that have no row of their own.
CODES: dict[type[HistillError], grpc.StatusCode] = {
    HistillError: grpc.StatusCode.INTERNAL,
    errors.InvalidArgumentError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhaustedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CorruptArtifactError: grpc.StatusCode.DATA_LOSS,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.WorkFailedError: grpc.StatusCode.ABORTED,
}
_ERRORS = {
    code: kind
    for kind, code in CODES.items()
    if kind
    not in {
        HistillError,
        errors.InvalidArgumentError,
        errors.ResourceExhaustedError,
        errors.WorkFailedError,
    }
}


def code_of(exc: HistillError) -> grpc.StatusCode:
    """The status code of an error: its own class's, else its nearest ancestor's."""
    return next(CODES[kind] for kind in type(exc).__mro__ if kind in CODES)


def to_status(exc: HistillError) -> status_pb2.Status:
    """An error as google.rpc.Status with its details."""
    number: int = code_of(exc).value[0]
    status = status_pb2.Status(code=number, message=_cut(str(exc), _MESSAGE_BYTES))
    info = error_details_pb2.ErrorInfo(reason=type(exc).__name__, domain=DOMAIN)
    if isinstance(exc, errors.WorkFailedError):
        info.reason = exc.reason
        info.metadata["hint"] = _cut(exc.hint, _DETAIL_BYTES)
    _add(status, info)
    if isinstance(exc, errors.InvalidArgumentError):
        _add(status, _bad_request(exc.violations))
    if isinstance(exc, errors.ResourceExhaustedError) and exc.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(int(1000 * exc.retry_after_s))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def pushback(exc: HistillError, left_s: float | None) -> tuple[tuple[str, str], ...]:
    """Trailers that tell a retrying client when to try again, or not to.

    Not to, when the caller would wait in silence for long, or past its deadline: then the
    error itself is the better answer.

    Args:
        exc: What the call ends with.
        left_s: Seconds to the caller's deadline.

    Source: gRPC's retry design, https://github.com/grpc/proposal/blob/master/A6-client-retries.md.
    """
    if not isinstance(exc, errors.ResourceExhaustedError):
        return ()
    later = exc.retry_after_s
    soon = later is not None and later <= min(
        _LONGEST_PUSHBACK_S, math.inf if left_s is None else left_s
    )
    wait = round(1000 * later) if soon and later is not None else -1
    return (("grpc-retry-pushback-ms", str(wait)),)


def _bad_request(violations: Sequence[FieldViolation]) -> error_details_pb2.BadRequest:
    """The violations that fit a trailer, and how many more there are."""
    bad = error_details_pb2.BadRequest()
    for done, violation in enumerate(violations):
        if bad.ByteSize() > _VIOLATIONS_BYTES:
            bad.field_violations.add(field="*", description=f"{len(violations) - done} more")
            break
        bad.field_violations.add(
            field=_cut(violation.field, _DETAIL_BYTES),
            description=_cut(violation.description, _DETAIL_BYTES),
        )
    return bad


def _cut(text: str, limit: int) -> str:
    data = text.encode()
    return text if len(data) <= limit else data[:limit].decode(errors="ignore") + "…"


def from_rpc_error(exc: grpc.RpcError) -> HistillError:
    """What a client raises for a failed call; the opposite of ``to_status``."""
    if not isinstance(exc, grpc.Call):
        return HistillError(str(exc))
    code, message = exc.code(), exc.details() or ""
    status = _details(exc)
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return _invalid(status, message)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            kind = errors.ResourceExhaustedError
            if _reason(status) == errors.TooLargeForOneMessageError.__name__:
                kind = errors.TooLargeForOneMessageError
            return kind(message, retry_after_s=_retry_after(status))
        case _ if code in _ERRORS:
            return _ERRORS[code](message)
        case _:
            return HistillError(f"{code.name}: {message}")


def _details(exc: grpc.Call) -> status_pb2.Status | None:
    try:
        return rpc_status.from_call(exc)
    except ValueError:  # details that contradict the call's own code: not ours
        return None


def _invalid(status: status_pb2.Status | None, message: str) -> HistillError:
    bad = error_details_pb2.BadRequest()
    if not _find(status, bad):
        return errors.InvalidArgumentError.of("request", message)
    return errors.InvalidArgumentError(
        *(FieldViolation(v.field, v.description) for v in bad.field_violations)
    )


def _reason(status: status_pb2.Status | None) -> str:
    info = error_details_pb2.ErrorInfo()
    return info.reason if _find(status, info) else ""


def _retry_after(status: status_pb2.Status | None) -> float | None:
    retry = error_details_pb2.RetryInfo()
    return retry.retry_delay.ToMilliseconds() / 1000 if _find(status, retry) else None


def _find(status: status_pb2.Status | None, detail: Message) -> bool:
    return status is not None and any(packed.Unpack(detail) for packed in status.details)


def _add(status: status_pb2.Status, detail: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
