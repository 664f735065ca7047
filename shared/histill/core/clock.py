"""The one source of the present time, so that tests can give another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present time, UTC, with its zone."""
    return datetime.now(UTC)
