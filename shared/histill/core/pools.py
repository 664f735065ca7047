"""Pools of workers: a job names the one that shall run it, a worker those that it takes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field, StringConstraints

from histill.core.names import NAME_PATTERN

if TYPE_CHECKING:
    from datetime import datetime

DEFAULT_POOL = "default"
_MOST = 64


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("names a pool twice")
    return names


Pools = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")], ...],
    Field(min_length=1, max_length=_MOST),
    AfterValidator(_each_once),
]


@dataclass(frozen=True)
class PoolLoad:
    """What a pool has to do.

    Attributes:
        queued: Jobs that wait for one of its workers.
        running: Jobs that its workers run.
        oldest: Since when the one waits that has waited longest: since it was accepted, or
            since it was put back; ``None`` when none waits.
    """

    queued: int = 0
    running: int = 0
    oldest: datetime | None = None
