"""Reads chains of the audit log and finds what was changed, taken out or cut off.

One thing cannot be found in the store alone: a store that was put back whole to an earlier
state of a chain that no later chain names yet. Versions or locks of objects help there.
"""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from histill.core.audit import (
    FOLDER,
    FOLLOWS,
    HEAD,
    BrokenLineError,
    Link,
    beginning,
    opened,
    parse_followed,
    parse_head,
    segment_name,
    started,
)
from histill.core.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from histill.core.audit import Head


class Reading(Protocol):
    """What of ``ObjectStore`` is needed to read; a folder of downloaded objects has it too."""

    def get(self, key: str) -> bytes:
        """The object's bytes, or NotFoundError."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted."""

    def list_folders(self, prefix: str) -> Iterator[str]:
        """Names of the folders right under ``prefix`` (which ends in ``/``)."""


@dataclass(frozen=True)
class Named:
    """What a chain tells of one before it.

    Attributes:
        link: Its end then.
        at: No record of it was later than this then; ``None``: not known.
    """

    link: Link
    at: datetime | None


@dataclass(frozen=True)
class ChainReport:
    """What was found in one chain.

    Attributes:
        chain: Its name.
        lines: Lines that are as they were written, up to the first fault.
        fault: Where that is and what it is; empty when there is none.
        follows: Chains that it names as those before it.
        hashes: Of those of its lines that were asked for, by number.
    """

    chain: str
    lines: int
    fault: str
    follows: Mapping[str, Named]
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
        if since and begun and begun < since:
            # A chain of the time before there was a key ends as its plain head says. Whoever
            # puts such a head there gains no more than by taking an unnamed chain away.
            head = _head_or_none(store, folder, key) or _head_or_none(store, folder, None)
            if head and head.at < since:
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
    """Checks chains one after the other, and those that they name, of which none may be gone.

    What a chain is said to hold by a later one counts for more than what its own head says:
    an older head may have been put back. So a chain that one of ``names`` names is checked,
    and so is one with an end after ``since`` that any checked chain names.

    Args:
        store: Holds them.
        names: Of the chains.
        key: That they were sealed with.
        since: Chains may be gone that ended before, as those say that name them: somebody's
            term of keeping is over.

    Raises:
        StorageUnavailableError: The store does not answer.
    """
    there = frozenset(store.list_folders(FOLDER))
    chosen = frozenset(names)
    waiting = set(chosen)
    due: dict[str, dict[int, str]] = {}
    # The newest first: it says what must be in those before it.
    while waiting:
        name = max(waiting)
        waiting.remove(name)
        if name not in there:
            yield ChainReport(name, 0, f"{FOLDER}{name} is missing; a later chain names it", {}, {})
            continue
        lines = due.pop(name, {})
        report = check_chain(store, name, key=key, wanted=lines.keys())
        wrong = [seq for seq, own in lines.items() if report.hashes.get(seq) != own]
        if wrong and not report.fault:
            words = f"{FOLDER}{name}: line {wrong[0]} is missing, or not the one that was followed"
            report = replace(report, fault=words)
        for chain, named in report.follows.items():
            due.setdefault(chain, {})[named.link.seq] = named.link.hash
            late = not (since and named.at and named.at < since)
            if late or (name in chosen and chain in there):
                waiting.add(chain)
        yield report


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
    head, head_at, fault = _head(store, chain, key)
    kept = {*wanted, head.seq}
    end, hashes, follows = beginning(chain, key), dict[int, str](), dict[str, Named]()

    def report(fault: str) -> ChainReport:
        return ChainReport(chain, end.seq, fault, follows, hashes)

    for where, line in records(store, chain):
        segment, _, number = where.rpartition(" line ")
        if number == "1" and segment.rpartition("/")[2] != segment_name(end.seq + 1):
            return report(f"{FOLDER}{chain}: line {end.seq + 1} is missing, before {where}")
        try:
            fields, end = opened(end, line, key)
            if fields.get("what") == FOLLOWS:
                # Without a time of its own, that of a head which tells of the line itself.
                follows |= _named(fields, chain, head_at if end.seq <= head.seq else None)
        except BrokenLineError as exc:
            return report(f"{where} {exc}")
        if end.seq in kept:
            hashes[end.seq] = end.hash
    if fault:
        return report(fault)
    if head.seq > end.seq:
        return report(f"{FOLDER}{chain}: lines {end.seq + 1} to {head.seq} are missing at the end")
    if hashes.get(head.seq) != head.hash:
        return report(f"{FOLDER}{chain}/{HEAD} does not fit line {head.seq}")
    return report("")


def _named(fields: Mapping[str, Any], chain: str, at: datetime | None) -> dict[str, Named]:
    """The chain that a record names; ``at`` where the record tells no time."""
    before, link, told = parse_followed(fields)
    if before >= chain:
        raise BrokenLineError("names a chain that is not before it")
    return {before: Named(link, told or at)}


def _head(store: Reading, chain: str, key: bytes | None) -> tuple[Link, datetime | None, str]:
    """The end that the head tells and when, or what is wrong with the head."""
    where = f"{FOLDER}{chain}/{HEAD}"
    try:
        head = parse_head(store.get(where), key)
    except NotFoundError:
        return Link(0, ""), None, f"{where} is missing: nothing says how many lines there were"
    except BrokenLineError as exc:
        return Link(0, ""), None, f"{where} {exc}"
    if head.chain != chain:
        return Link(0, ""), None, f"{where} belongs to {head.chain}"
    return head.link, head.at, ""


def last_ends(
    store: Reading, *, process: str, before: str, key: bytes | None, most: int = 16
) -> list[Head]:
    """Heads of the latest chains of a process that began before another one, newest first.

    Several, since replicas run beside each other, and each shall be named by a later one.
    Folders without a head of their own do not count: anybody who writes the store can put
    any number of them before those that do.
    """
    own = sorted(
        (
            folder
            for folder in store.list_folders(FOLDER)
            if folder.rsplit("-", 2)[0] == process and folder < before
        ),
        reverse=True,
    )
    heads = (_head_or_none(store, name, key) for name in own)
    return list(islice((head for head in heads if head), most))


def _head_or_none(store: Reading, chain: str, key: bytes | None) -> Head | None:
    try:
        head = parse_head(store.get(f"{FOLDER}{chain}/{HEAD}"), key)
    except (NotFoundError, BrokenLineError):
        return None
    return head if head.chain == chain else None
