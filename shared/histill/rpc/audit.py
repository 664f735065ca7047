"""What the audit log tells of a call: who did what to what, and how it ended.

Handlers add facts with ``note``; the rest is found by ``AuditInterceptor``. A record holds no
pixel, no patient's data, no name of a file and no secret: see ``audit_facts``.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from histill.core.audit import stamp
from histill.core.errors import StorageUnavailableError
from histill.core.manifests import ONNX
from histill.rpc import measures
from histill.rpc.audit_facts import facts_of, formed
from histill.rpc.audit_strangers import Strangers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from histill.core.audit import AuditTrail
    from histill.core.clock import Clock
    from histill.core.manifests import ModelManifest
    from histill.rpc.audit_facts import Kind
    from histill.rpc.auth import Caller

WhenFull = Literal["refuse_writes", "refuse_all", "drop"]


@dataclass(frozen=True)
class Audit:
    """Where records go, and what happens when they cannot.

    Attributes:
        trail: Takes them.
        when_full: As in the settings.
        clock: Gives their times.
        strangers: Takes those of callers whom nobody knows.
    """

    trail: AuditTrail
    when_full: WhenFull
    clock: Clock
    strangers: Strangers = field(init=False)

    def __post_init__(self) -> None:
        """Strangers are told of through this log."""
        object.__setattr__(self, "strangers", Strangers(self.write))

    def write(self, fields: Mapping[str, object]) -> int:
        """Writes a record and counts it."""
        number = self.trail.append(fields)
        (measures.AUDITED if number else measures.AUDIT_DROPPED).inc()
        return number

    def refuses(self, kind: Kind) -> bool:
        """Whether a call of a kind must not begin, since nothing could be told of it."""
        return self.must_tell(kind) and self.trail.full()

    def must_tell(self, kind: Kind) -> bool:
        """Whether a call of a kind may happen only if it is told of."""
        return self.when_full != "drop" and (kind == "write" or self.when_full == "refuse_all")


@dataclass
class Record:
    """One call, or one request of a stream, while it goes on.

    Attributes:
        audit: Where it is written.
        method: Full method.
        kind: What the method does.
        ahead: Whether it is announced before it begins: its effect, or a part of its
            answer, can leave this process before it ends.
        facts: What is known of it.
        parts: Requests of the stream that have records of their own.
        bytes_in: Of all requests yet.
        bytes_out: Of all answers yet.
        read: Bytes of the last request.
        address: Where it comes from.
        ended: Whether it is written.
    """

    audit: Audit
    method: str
    kind: Kind
    ahead: bool
    facts: dict[str, object] = field(default_factory=dict)
    parts: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    read: int = 0
    begun: int = 0
    address: str = ""
    ended: bool = False
    started: float = field(default_factory=time.perf_counter)

    def note(self, **facts: object) -> None:
        """As the function of that name."""
        self.facts |= {name: formed(name, value) for name, value in facts.items() if value}

    def admit(self) -> None:
        """Announces the call, once it is known who makes it and that they may.

        Raises:
            StorageUnavailableError: The log is full, and nothing may happen that it misses.
        """
        if self.audit.refuses(self.kind):
            raise _full()
        if self.ahead:
            self.begun = self.audit.write({**self._told(), "what": "begun"})
            # There was room a moment ago, and perhaps not for this one.
            if not self.begun and self.audit.must_tell(self.kind):
                raise _full()

    def end(self, code: str) -> None:
        """Writes the record, once: what ended a call first is what its caller hears."""
        if self.ended:
            return
        self.ended = True
        if self.parts and code == "OK":
            return
        seconds = time.perf_counter() - self.started
        known = {"code": code, **self._told(), "ms": round(1000 * seconds, 3), "what": "ended"}
        also = {"bytes_in": self.bytes_in, "bytes_out": self.bytes_out, "begun": self.begun}
        told = known | {name: number for name, number in also.items() if number}
        if "caller" in self.facts:
            self.audit.write(told)
        else:
            self.audit.strangers.tell(self.address, told)

    def _told(self) -> dict[str, object]:
        at = stamp(self.audit.clock())
        return {"at": at, "method": self.method, "kind": self.kind, **self.facts}


def _full() -> StorageUnavailableError:
    return StorageUnavailableError(
        "the audit log is full and its store does not answer; nothing may be changed "
        "that it would not tell of"
    )


_RECORD: ContextVar[Record | None] = ContextVar("audit_record", default=None)


def note(**facts: object) -> None:
    """Adds facts to the record of the call that is being answered; of none, does nothing.

    Args:
        facts: ``resource``, ``model``, ``alias``: of the API's forms. ``sha256``: digest of
            the model's file. ``bytes_out``: where no message tells it. ``caller``, ``project``,
            ``role``, ``request_id``. ``code``: how it ended, if not as the call. ``why``: one
            word, e.g. an error's class. Empty ones are left out.
    """
    if record := _RECORD.get():
        record.note(**facts)


def note_caller(caller: Caller) -> None:
    """Notes who makes the call that is being answered."""
    note(caller=caller.id, project=caller.project, role=caller.role)


def note_model(manifest: ModelManifest) -> None:
    """Notes which model answered, and the digest of its network."""
    digests = {file.path: file.sha256 for file in manifest.files}
    note(model=manifest.reference, sha256=digests.get(ONNX, ""))


def note_refusal(exc: Exception) -> None:
    """Notes why a call is refused, in the word that is its error's name."""
    note(why=type(exc).__name__.removesuffix("Error"))


def admit() -> None:
    """Announces the call that is being answered.

    Raises:
        StorageUnavailableError: The log has no room for it.
    """
    if record := _RECORD.get():
        record.admit()


def end(code: str) -> None:
    """Writes the record of the call that is being answered, before its answer leaves.

    Args:
        code: gRPC's name of the status that the caller gets.
    """
    if record := _RECORD.get():
        record.end(code)


@contextmanager
def opened(record: Record) -> Iterator[Record]:
    """Makes a record that of the present call; writes nothing by itself."""
    before = _RECORD.get()
    _RECORD.set(record)
    try:
        yield record
    finally:
        _RECORD.set(before)


@contextmanager
def part(request: Any) -> Iterator[None]:
    """One request of a stream, with a record of its own.

    Args:
        request: Its message.

    Raises:
        StorageUnavailableError: As ``admit``.
    """
    whole = _RECORD.get()
    if whole is None:
        yield
        return
    whole.parts += 1
    who = {k: v for k, v in whole.facts.items() if k in {"caller", "project", "role", "request_id"}}
    record = Record(whole.audit, whole.method, whole.kind, ahead=False, facts=who)
    record.facts["part"] = whole.parts
    with opened(record):
        record.bytes_in = whole.read
        record.note(**facts_of(request))
        code = "INTERNAL"
        try:
            record.admit()
            yield
            code = "OK"
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        finally:
            record.end(code)
