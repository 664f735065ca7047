"""Our errors as gRPC statuses, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from google.rpc import error_details_pb2

from histill.core import errors
from histill.core.errors import FieldViolation, HistillError
from histill.rpc.statuses import CODES, code_of, to_status

if TYPE_CHECKING:
    from collections.abc import Iterator


def every(kind: type[HistillError] = HistillError) -> Iterator[type[HistillError]]:
    for child in kind.__subclasses__():
        yield child
        yield from every(child)


def made(kind: type[HistillError]) -> HistillError:
    match kind.__name__:
        case "InvalidArgumentError":
            return errors.InvalidArgumentError(FieldViolation("a.b", "wrong"))
        case "WorkFailedError":
            return errors.WorkFailedError("m", reason="R", hint="h")
        case _:
            return kind("message")


@pytest.mark.parametrize("kind", sorted(set(every()), key=str))
def test_every_error_has_a_code_of_its_own_family(kind: type[HistillError]) -> None:
    """No error of the tree falls through to INTERNAL, but those that a caller never sees."""
    code = code_of(made(kind))
    inside = issubclass(kind, errors.InternalError)
    assert (code is grpc.StatusCode.INTERNAL) == inside


def test_no_two_rows_share_a_code() -> None:
    """So that a client can tell them apart again."""
    assert len(set(CODES.values())) == len(CODES)


def test_wrong_fields_travel_as_a_bad_request() -> None:
    """Each violation keeps its path and its words."""
    status = to_status(
        errors.InvalidArgumentError(FieldViolation("a", "one"), FieldViolation("b[2].c", "two"))
    )
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status.details)
    assert [(v.field, v.description) for v in bad.field_violations] == [
        ("a", "one"),
        ("b[2].c", "two"),
    ]


def test_a_retry_hint_travels() -> None:
    """How long to wait is told where waiting helps, and only there."""
    retry = error_details_pb2.RetryInfo()
    busy = to_status(errors.ResourceExhaustedError("busy", retry_after_s=1.5))
    assert any(detail.Unpack(retry) for detail in busy.details)
    assert retry.retry_delay.ToMilliseconds() == 1500
    large = to_status(errors.ResourceExhaustedError("too large"))
    assert not any(detail.Is(retry.DESCRIPTOR) for detail in large.details)
