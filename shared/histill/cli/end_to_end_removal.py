"""What an end-to-end check has made: removed, or told to whoever wants to look at it."""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from histill.api.distillation.v1 import job_pb2
from histill.core.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    HistillError,
    InternalError,
    NotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from histill.client import Client

FINAL = frozenset(
    {job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED}
)
_STOP_S = 30.0
_POLL_S = 0.5
# The worker stores a job's last events after its state: what is removed before comes again.
_EVENTS_S = 2.0


# After these nobody knows: an answer can be lost behind its effect.
_UNCERTAIN = (UnavailableError, DeadlineExceededError, InternalError)


@dataclass
class Made:
    """What was made, and what may have been.

    Attributes:
        name: Of dataset and models, and the job's display name: nothing else has it.
        parts: Reference or name of dataset, job and model; empty: perhaps there is one.
        goes_on: Whether the job may not have ended.
    """

    name: str
    parts: dict[str, str] = field(default_factory=dict)
    goes_on: bool = False

    @contextmanager
    def making(self, kind: str) -> Iterator[None]:
        """Notes that there may be one, unless what the block asks for is refused."""
        self.parts[kind] = ""
        try:
            yield
        except HistillError as exc:
            if not isinstance(exc, _UNCERTAIN):
                del self.parts[kind]
            raise

    def told(self) -> str:
        """All of it in words, for somebody who keeps it."""
        parts = [
            f"{kind} {name}" if name else f"perhaps a {kind}" for kind, name in self.parts.items()
        ]
        if not parts:
            return "nothing was made"
        words = f"kept as {self.name}: {', '.join(parts)}"
        if self.goes_on and "job" in self.parts:
            words += "; the job goes on, histill jobs cancel ends it"
        return words


def remove(client: Client, made: Made) -> list[str]:
    """Removes the job, then the models, then the dataset.

    Args:
        client: With the key of an admin.
        made: What there may be.

    Returns:
        What is left and why, a line each.
    """
    left: list[str] = []
    # First what still makes something, at last what others need.
    _all("job", lambda: _jobs(client, made), lambda each: _remove_job(client, each), left)
    _all("model", lambda: _models(client, made.name), client.models.delete, left)
    _all("dataset", lambda: _datasets(client, made.name), client.datasets.delete, left)
    return left


def _all(
    kind: str,
    names: Callable[[], Iterator[str]],
    remove_one: Callable[[str], None],
    left: list[str],
) -> None:
    try:
        found = list(names())
    except HistillError as exc:
        left.append(f"{kind} of this check, if there is one: {exc}")
        return
    for each in found:
        try:
            with suppress(NotFoundError):
                remove_one(each)
        except HistillError as exc:
            left.append(f"{kind} {each}: {exc}")


def _jobs(client: Client, made: Made) -> Iterator[str]:
    if job := made.parts.get("job"):
        yield job
    elif "job" in made.parts:
        # On whatever page: many may have come after it.
        yield from (job.name for job in client.jobs.list() if job.display_name == made.name)


def _models(client: Client, name: str) -> Iterator[str]:
    for model in client.models.list(name=name):
        yield model.reference


def _datasets(client: Client, name: str) -> Iterator[str]:
    with suppress(NotFoundError):
        yield client.datasets.get(name).reference


def _remove_job(client: Client, name: str) -> None:
    with suppress(FailedPreconditionError):  # it has ended
        client.jobs.cancel(name)
    deadline = time.monotonic() + _STOP_S
    while client.jobs.get(name).state not in FINAL and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    time.sleep(_EVENTS_S)
    client.jobs.delete(name)
