"""A status fits the trailers that carry it, whatever a caller sent."""

from __future__ import annotations

import pytest
from google.rpc import error_details_pb2

from histill.core.errors import FieldViolation, HistillError, InvalidArgumentError, NotFoundError
from histill.rpc.statuses import to_status

TRAILER_BYTES = 8192
LONG = [
    NotFoundError("ü" * 100_000),
    InvalidArgumentError.of("job.supervised.dataset", "x" * 1_000_000),
    InvalidArgumentError(*(FieldViolation(f"job.x[{n}]", "ü" * 500) for n in range(1000))),
]


@pytest.mark.parametrize("exc", LONG, ids=["message", "value", "violations"])
def test_what_a_caller_sent_does_not_break_the_answer(exc: HistillError) -> None:
    """Base64 of the details and the percent-encoded message stay within the usual limit."""
    status = to_status(exc)
    assert status.ByteSize() * 4 / 3 + 3 * len(status.message.encode()) < TRAILER_BYTES


def test_what_was_left_out_is_counted() -> None:
    """A caller with a thousand wrong fields learns that there are more."""
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in to_status(LONG[2]).details)
    named = len(bad.field_violations) - 1
    assert bad.field_violations[-1].description == f"{1000 - named} more"
