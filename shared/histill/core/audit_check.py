"""Reads chains of the audit log and finds what was changed, taken out or cut off.

One thing cannot be found in the store alone: a store that was put back whole to an earlier
state of a chain that no later chain names yet. Versions or locks of objects help there.
"""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from histill.core.audit import (
    FOLDER,
    HEAD,
    BrokenLineError,
    Link,
    beginning,
    opened,
    parse_head,
    segment_name,
    started,
)
from histill.core.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from histill.core.audit import Head

FOLLOWS = "follows"


class Reading(Protocol):
    """What of ``ObjectStore`` is needed to read; a folder of downloaded objects has it too."""

    def get(self, key: str) -> bytes:
        """The object's bytes, or NotFoundError."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted."""

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right under ``prefix`` (which ends in ``/``)."""


@dataclass(frozen=True)
class ChainReport:
    """What was found in one chain.

    Attributes:
        chain: Its name.
        lines: Lines that are as they were written, up to the first fault.
        fault: Where that is and what it is; empty when there is none.
        follows: Chains that it names as those before it, with their ends then.
        hashes: Of those of its lines that were asked for, by number.
    """

    chain: str
    lines: int
    fault: str
    follows: Mapping[str, Link]
    hashes: Mapping[int, str]


def chains(
    store: Reading, *, since: datetime | None, until: datetime | None, key: bytes | None
) -> list[str]:
    """Names of the chains that may hold records of a span of time."""
    found = []
    for folder in store.list_folders(FOLDER):
        begun = started(folder)
        if begun and until and begun > until:
            continue
        head = _head_or_none(store, folder, key)
        if head and since and head.at < since:
            continue
        found.append(folder)
    return found


def records(store: Reading, chain: str) -> Iterator[tuple[str, str]]:
    """Lines of a chain as they lie there, each with where it stands."""
    prefix = f"{FOLDER}{chain}/"
    for key in store.list(prefix):
        if key.endswith(".jsonl"):
            lines = store.get(key).decode(errors="replace").split("\n")
            # What follows the last line break is empty, unless somebody cut there.
            for number, line in enumerate(lines if lines[-1] else lines[:-1], start=1):
                yield f"{key} line {number}", line


def check(
    store: Reading, names: Iterable[str], *, key: bytes | None, since: datetime | None = None
) -> Iterator[ChainReport]:
    """Checks chains one after the other, and that none is gone that another names.

    Args:
        store: Holds them.
        names: Of the chains.
        key: That they were sealed with.
        since: Chains that began before may be gone: somebody's term of keeping is over.

    Raises:
        StorageUnavailableError: The store does not answer.
    """
    # The newest first: it says what must be in those before it.
    named: dict[str, dict[int, str]] = {}
    for name in sorted(names, reverse=True):
        due = named.pop(name, {})
        report = check_chain(store, name, key=key, wanted=due.keys())
        wrong = [seq for seq, own in due.items() if report.hashes.get(seq) != own]
        if wrong and not report.fault:
            words = f"{FOLDER}{name}: line {wrong[0]} is missing, or not the one that was followed"
            report = replace(report, fault=words)
        for chain, link in report.follows.items():
            named.setdefault(chain, {})[link.seq] = link.hash
        yield report
    for name in sorted(named.keys() - set(store.list_folders(FOLDER))):
        begun = started(name)
        if not (since and begun and begun < since):
            yield ChainReport(name, 0, f"{FOLDER}{name} is missing; a later chain names it", {}, {})


def check_chain(
    store: Reading, chain: str, *, key: bytes | None, wanted: Collection[int] = ()
) -> ChainReport:
    """Reads a chain from its beginning to its head, or to the first fault.

    Args:
        store: Holds it.
        chain: Its name.
        key: That it was sealed with.
        wanted: Numbers of lines whose hashes are to be told.
    """
    # Before the lines: those of a running process go on while they are read.
    head, fault = _head(store, chain, key)
    kept = {*wanted, head.seq}
    end, hashes, follows = beginning(chain, key), dict[int, str](), dict[str, Link]()

    def report(fault: str) -> ChainReport:
        return ChainReport(chain, end.seq, fault, follows, hashes)

    for where, line in records(store, chain):
        segment, _, number = where.rpartition(" line ")
        if number == "1" and segment.rpartition("/")[2] != segment_name(end.seq + 1):
            return report(f"{FOLDER}{chain}: line {end.seq + 1} is missing, before {where}")
        try:
            fields, end = opened(end, line, key)
        except BrokenLineError as exc:
            return report(f"{where} {exc}")
        if end.seq in kept:
            hashes[end.seq] = end.hash
        if fields.get("what") == FOLLOWS:
            follows[str(fields["chain"])] = Link(int(fields["count"]), str(fields["last"]))
    if fault:
        return report(fault)
    if head.seq > end.seq:
        return report(f"{FOLDER}{chain}: lines {end.seq + 1} to {head.seq} are missing at the end")
    if hashes.get(head.seq) != head.hash:
        return report(f"{FOLDER}{chain}/{HEAD} does not fit line {head.seq}")
    return report("")


def _head(store: Reading, chain: str, key: bytes | None) -> tuple[Link, str]:
    """The end that the head tells, or what is wrong with the head."""
    where = f"{FOLDER}{chain}/{HEAD}"
    try:
        head = parse_head(store.get(where), key)
    except NotFoundError:
        return Link(0, ""), f"{where} is missing: nothing says how many lines there were"
    except BrokenLineError as exc:
        return Link(0, ""), f"{where} {exc}"
    if head.chain != chain:
        return Link(0, ""), f"{where} belongs to {head.chain}"
    return head.link, ""


def last_ends(
    store: Reading, *, process: str, before: str, key: bytes | None, most: int = 16
) -> list[Head]:
    """Heads of the latest chains of a process that began before another one, newest first.

    Several, since replicas run beside each other, and each shall be named by a later one.
    """
    own = sorted(
        folder
        for folder in store.list_folders(FOLDER)
        if folder.rsplit("-", 2)[0] == process and folder < before
    )
    heads = (_head_or_none(store, name, key) for name in own[: -most - 1 : -1])
    return [head for head in heads if head]


def _head_or_none(store: Reading, chain: str, key: bytes | None) -> Head | None:
    try:
        return parse_head(store.get(f"{FOLDER}{chain}/{HEAD}"), key)
    except (NotFoundError, BrokenLineError):
        return None
