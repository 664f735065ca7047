"""What a caller wants of the service besides the work itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histill.rpc.auth import ANONYMOUS
from histill.rpc.interceptor import current_caller

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Call:
    """The terms of one request.

    Attributes:
        deadline: ``time.monotonic()`` after which nobody wants the answer.
        urgent: Overtakes what is not, as DICOM's request priority STAT does (PS3.3, tag
            0040,1003).
        project: Whose models it may name, and whose quota it counts against.
    """

    deadline: float | None = None
    urgent: bool = False
    project: str = ANONYMOUS.project

    @property
    def left_s(self) -> float | None:
        """Seconds to the deadline; negative after it."""
        return None if self.deadline is None else self.deadline - time.monotonic()


def call_of(context: Context, *, urgent: bool = False, timeout_s: float | None = None) -> Call:
    """The terms of the request that is being answered.

    Args:
        context: Of the call; its deadline counts.
        urgent: What the request says.
        timeout_s: A bound in the request itself; the earlier of both counts.
    """
    bounds = [each for each in (context.time_remaining(), timeout_s) if each is not None]
    deadline = time.monotonic() + min(bounds) if bounds else None
    return Call(deadline, urgent, current_caller().project)
