"""The audit log's lines, sealed so that a change to what was written shows.

A chain is what one process wrote between its start and its end. Each line is a JSON object
with its number ``seq``, the hash ``prev`` of the line before and its own ``hash``, which is
SHA-256 over the rest of the line in canonical form, or HMAC-SHA-256 with a key. Without a key
whoever can write the store can also write a whole new chain; with one they cannot.

A chain lies in the store as ``audit/{chain}/{first seq}.jsonl``, each written once, beside
``audit/{chain}/head.json``, which says how many lines there are, so that a missing end shows.
"""

# pyright: reportReturnType=false
# (a Protocol's methods have words, and no bodies)

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = "audit/"
HEAD = "head.json"
FOLLOWS = "follows"
_STAMP = "%Y%m%dT%H%M%SZ"
# Whatever bytes that somebody put there may raise; UnicodeError is a ValueError.
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError)


class AuditTrail(Protocol):
    """Takes records. Neither method blocks for longer than a write to a local file."""

    def append(self, fields: Mapping[str, object]) -> int:
        """Writes a record; returns its number, or 0 when there was no room for it."""

    def full(self) -> bool:
        """Whether a record would find no room."""

    def held_bytes(self) -> int:
        """Bytes that are written here and not yet in the store."""


class BrokenLineError(Exception):
    """A line is not what was written; says how. Caught by who reads the chain."""


@dataclass(frozen=True)
class Link:
    """The end of a chain: the last line's number, from 1, and its hash."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Head:
    """What a chain holds at least.

    Attributes:
        at: When that was so, UTC.
        chain: Its name.
        link: The last line then.
    """

    at: datetime
    chain: str
    link: Link


def chain_name(process: str, *, at: datetime) -> str:
    """A fresh name; those of one process sort by time."""
    return f"{process}-{at.astimezone(UTC).strftime(_STAMP)}-{secrets.token_hex(4)}"


def started(chain: str) -> datetime | None:
    """When a chain of that name was begun; ``None`` for no name of ours."""
    stamp = chain.split("-")[-2] if chain.count("-") > 1 else ""
    try:
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def segment_name(first: int) -> str:
    """File name of the segment that begins with the line of that number."""
    return f"{first:012}.jsonl"


def beginning(chain: str, key: bytes | None) -> Link:
    """What the first line of a chain hangs on."""
    return Link(0, _digest(f"histill audit {chain}", key))


def sealed(before: Link, fields: Mapping[str, object], key: bytes | None) -> tuple[str, Link]:
    """A record as a line, and the chain's new end.

    Args:
        before: The chain's end.
        fields: The record; JSON values.
        key: For HMAC; ``None`` takes the plain hash.
    """
    body = _canonical({**fields, "prev": before.hash, "seq": before.seq + 1})
    link = Link(before.seq + 1, _digest(body, key))
    return f'{body[:-1]},"hash":"{link.hash}"}}\n', link


def opened(before: Link, line: str, key: bytes | None) -> tuple[dict[str, Any], Link]:
    """A line's record, and the chain's new end.

    Args:
        before: The chain's end.
        line: Without its line break.
        key: That it was sealed with.

    Raises:
        BrokenLineError: It is not the line that followed.
    """
    try:
        fields = json.loads(line, parse_constant=_refused)
        seq, prev, own = fields["seq"], fields["prev"], fields.pop("hash")
    except (*_UNREADABLE, KeyError, AttributeError):
        raise BrokenLineError("is no record") from None
    if seq != before.seq + 1:
        raise BrokenLineError(f"has the number {seq}, where {before.seq + 1} is due")
    if prev != before.hash:
        raise BrokenLineError("does not follow from the line before it")
    try:
        again, link = sealed(before, fields, key)
    except _UNREADABLE:
        # Numbers such as 1e999, which are read and cannot be written.
        raise BrokenLineError("is no record") from None
    if link.hash != own or again != line + "\n":
        raise BrokenLineError("does not fit its hash")
    return fields, link


def head_bytes(head: Head, key: bytes | None) -> bytes:
    """A head as it is stored, with a hash of its own."""
    fields = {
        "at": stamp(head.at),
        "chain": head.chain,
        "count": head.link.seq,
        "last": head.link.hash,
    }
    body = _canonical(fields)
    return f'{body[:-1]},"hash":"{_digest(body, key)}"}}\n'.encode()


def parse_head(data: bytes, key: bytes | None) -> Head:
    """The opposite of ``head_bytes``.

    Raises:
        BrokenLineError: It is not what was written.
    """
    try:
        fields = json.loads(data, parse_constant=_refused)
        link = Link(int(fields["count"]), str(fields["last"]))
        head = Head(datetime.fromisoformat(fields["at"]), str(fields["chain"]), link)
        # A time at the edge of what can be told is read, and not written again.
        again = head_bytes(head, key)
    except (*_UNREADABLE, KeyError):
        raise BrokenLineError("is no head") from None
    if again != data:
        raise BrokenLineError("does not fit its hash")
    return head


def followed(head: Head) -> dict[str, object]:
    """The record by which a chain names one before it."""
    return {
        "what": FOLLOWS,
        "chain": head.chain,
        "count": head.link.seq,
        "last": head.link.hash,
        "head_at": stamp(head.at),
    }


def parse_followed(fields: Mapping[str, Any]) -> tuple[str, Link, datetime | None]:
    """The opposite of ``followed``: a chain, its end then, and the head's time then.

    Records of earlier versions do not tell that time.

    Raises:
        BrokenLineError: It names no chain.
    """
    try:
        link = Link(int(fields["count"]), str(fields["last"]))
        told = fields.get("head_at")
        at = None if told is None else datetime.fromisoformat(told).astimezone(UTC)
        return str(fields["chain"]), link, at
    except (*_UNREADABLE, KeyError):
        raise BrokenLineError("names no chain before it") from None


def stamp(at: datetime) -> str:
    """A time in UTC, to the millisecond."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _refused(word: str) -> None:
    """For ``NaN`` and ``Infinity``, which are no JSON and which Python reads all the same."""
    raise ValueError(word)


def _canonical(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(text: str, key: bytes | None) -> str:
    data = text.encode()
    return hmac.digest(key, data, "sha256").hex() if key else hashlib.sha256(data).hexdigest()
