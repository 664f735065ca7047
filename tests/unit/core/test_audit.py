"""Chains of the audit log: whatever is done to one afterwards is found."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryObjects
from histill.core import audit_check
from histill.core.audit import (
    FOLDER,
    HEAD,
    Head,
    Link,
    beginning,
    chain_name,
    followed,
    head_bytes,
    sealed,
    segment_name,
    started,
)
from histill.core.audit_settings import AuditSettings

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"k" * 32
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CHAIN = "jobs-20260301T120000Z-0badcafe"


def write(
    store: MemoryObjects,
    chain: str = CHAIN,
    *,
    key: bytes | None = KEY,
    segments: tuple[int, ...] = (3, 4, 2),
    caller: str = "ann",
) -> Link:
    """A chain of segments with so many lines, as a service would have shipped it."""
    end = beginning(chain, key)
    for lines in segments:
        name, text = segment_name(end.seq + 1), ""
        for _ in range(lines):
            line, end = sealed(end, {"what": "ended", "caller": caller, "ms": 1.25}, key)
            text += line
        store.put(f"{FOLDER}{chain}/{name}", text.encode())
    store.put(f"{FOLDER}{chain}/{HEAD}", head_bytes(Head(NOW, chain, end), key))
    return end


def faults(store: MemoryObjects, *, key: bytes | None = KEY) -> list[str]:
    names = audit_check.chains(store, since=None, until=None, key=key)
    return [report.fault for report in audit_check.check(store, names, key=key) if report.fault]


@pytest.fixture
def store() -> MemoryObjects:
    """A store with one chain of nine lines in segments from 1, 4 and 8 on."""
    made = MemoryObjects()
    write(made)
    return made


def segment(first: int) -> str:
    return f"{FOLDER}{CHAIN}/{segment_name(first)}"


def edit(store: MemoryObjects, first: int, change: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = store.data[segment(first)].splitlines(keepends=True)
    store.data[segment(first)] = b"".join(change(lines))


def test_a_whole_chain_passes(store: MemoryObjects) -> None:
    """What was written and not touched has no fault, with a key and without."""
    assert faults(store) == []
    plain = MemoryObjects()
    write(plain, key=None)
    assert faults(plain, key=None) == []


@pytest.mark.parametrize("key", [KEY, None])
def test_every_changed_byte_is_found(key: bytes | None) -> None:
    """One flipped bit anywhere in a segment is a fault, and its line is named."""
    store = MemoryObjects()
    write(store, key=key)
    whole = store.data[segment(4)]
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        store.data[segment(4)] = bytes(changed)
        assert f"{segment_name(4)} line" in faults(store, key=key)[0], place


def test_a_line_taken_out_of_the_middle_is_found(store: MemoryObjects) -> None:
    """The line after the gap is named."""
    edit(store, 4, lambda lines: lines[:1] + lines[2:])
    [fault] = faults(store)
    assert "000000000004.jsonl line 2 has the number 6, where 5 is due" in fault


@pytest.mark.parametrize("cut", [1, 2])
def test_lines_cut_off_at_the_end_are_found(store: MemoryObjects, cut: int) -> None:
    """The head says how many there were."""
    edit(store, 8, lambda lines: lines[:-cut])
    [fault] = faults(store)
    assert fault.endswith(f"lines {10 - cut} to 9 are missing at the end")


@pytest.mark.parametrize(
    ("first", "words"),
    [(1, "line 1 is missing"), (4, "line 4 is missing"), (8, "lines 8 to 9 are missing")],
)
def test_a_segment_that_is_gone_is_found(store: MemoryObjects, first: int, words: str) -> None:
    """Be it the first, one in between or the last."""
    store.delete(segment(first))
    [fault] = faults(store)
    assert words in fault


def test_swapped_lines_are_found(store: MemoryObjects) -> None:
    """The first of both is named."""
    edit(store, 4, lambda lines: [lines[1], lines[0], *lines[2:]])
    assert "000000000004.jsonl line 1" in faults(store)[0]


def test_a_line_told_twice_is_found(store: MemoryObjects) -> None:
    """Nothing can be put in."""
    edit(store, 4, lambda lines: [lines[0], *lines])
    assert "000000000004.jsonl line 2" in faults(store)[0]


def test_a_chain_that_is_consistently_another_needs_the_key() -> None:
    """Without the key nobody can tell; with it, whoever has no key can forge nothing."""
    store = MemoryObjects()
    write(store, key=None, caller="somebody else")
    assert faults(store, key=None) == []
    assert "line 1" in faults(store, key=KEY)[0]
    store = MemoryObjects()
    write(store, key=b"x" * 32, caller="somebody else")
    assert "line 1" in faults(store, key=KEY)[0]


def test_the_head_cannot_be_set_back_without_the_key(store: MemoryObjects) -> None:
    """Whoever cuts the end must also write a head, which takes the key."""
    store.delete(segment(8))
    middle = Link(7, "0" * 64)
    store.put(f"{FOLDER}{CHAIN}/{HEAD}", head_bytes(Head(NOW, CHAIN, middle), b"x" * 32))
    assert "head.json does not fit its hash" in faults(store)[0]
    store.delete(f"{FOLDER}{CHAIN}/{HEAD}")
    assert "head.json is missing" in faults(store)[0]


def test_lines_beyond_the_head_are_a_chain_that_goes_on(store: MemoryObjects) -> None:
    """A service ships its lines before the head that tells of them."""
    end = audit_check.check_chain(store, CHAIN, key=KEY, wanted=[9]).hashes[9]
    line, _ = sealed(Link(9, end), {"what": "ended"}, KEY)
    store.put(segment(10), line.encode())
    assert faults(store) == []


def test_a_chain_that_is_gone_is_missed_by_the_one_after_it(store: MemoryObjects) -> None:
    """A chain names the one before it, and where that ended."""
    [last] = audit_check.last_ends(store, process="jobs", before="jobs-20260302", key=KEY)
    later = "jobs-20260302T080000Z-00000000"
    record = {
        "what": "follows",
        "chain": CHAIN,
        "count": last.link.seq,
        "last": last.link.hash,
    }
    line, end = sealed(beginning(later, KEY), record, KEY)
    store.put(f"{FOLDER}{later}/{segment_name(1)}", line.encode())
    store.put(f"{FOLDER}{later}/{HEAD}", head_bytes(Head(NOW, later, end), KEY))
    assert faults(store) == []
    kept = dict(store.data)
    write(store, segments=(3,))
    store.delete(segment(4))
    store.delete(segment(8))
    assert "line 9 is missing" in faults(store)[0]
    store.data = kept
    store.delete_prefix(f"{FOLDER}{CHAIN}/")
    assert f"{CHAIN} is missing" in faults(store)[0]
    names = audit_check.chains(store, since=None, until=None, key=KEY)
    kept_since = NOW + timedelta(days=1)
    assert not any(
        report.fault for report in audit_check.check(store, names, key=KEY, since=kept_since)
    )


LATER = "jobs-20260302T080000Z-00000000"
LATER_AT = NOW + timedelta(hours=20)


def follow(store: MemoryObjects, head: Head, *, legacy: bool = False) -> None:
    """A chain that names another one, as the next process would have written it."""
    record = followed(head)
    if legacy:
        del record["head_at"]
    line, end = sealed(beginning(LATER, KEY), record, KEY)
    store.put(f"{FOLDER}{LATER}/{segment_name(1)}", line.encode())
    store.put(f"{FOLDER}{LATER}/{HEAD}", head_bytes(Head(LATER_AT, LATER, end), KEY))


def faults_since(store: MemoryObjects, since: datetime) -> list[str]:
    names = audit_check.chains(store, since=since, until=None, key=KEY)
    found = audit_check.check(store, names, key=KEY, since=since)
    return [report.fault for report in found if report.fault]


@pytest.fixture
def rolled(store: MemoryObjects) -> tuple[MemoryObjects, dict[str, bytes]]:
    """A chain that goes on until an hour past noon and is named; and what it was at noon."""
    earlier = dict(store.data)
    end = write(store, segments=(3, 4, 2, 5))
    head = Head(NOW + timedelta(hours=1), CHAIN, end)
    store.put(f"{FOLDER}{CHAIN}/{HEAD}", head_bytes(head, KEY))
    follow(store, head)
    return store, earlier


def test_an_older_head_that_is_put_back_hides_nothing(
    rolled: tuple[MemoryObjects, dict[str, bytes]],
) -> None:
    """Also from who asks for a time after that head: a later chain tells of more."""
    store, earlier = rolled
    half = NOW + timedelta(minutes=30)
    assert faults_since(store, half) == []
    store.delete_prefix(f"{FOLDER}{CHAIN}/")
    store.data.update(earlier)
    for since in (half, NOW + timedelta(hours=2)):
        assert "line 14 is missing" in faults_since(store, since)[0]


def test_a_chain_that_is_gone_is_missed_unless_it_ended_before(
    rolled: tuple[MemoryObjects, dict[str, bytes]],
) -> None:
    """When it began does not matter: what it held of the span is gone."""
    store, _ = rolled
    store.delete_prefix(f"{FOLDER}{CHAIN}/")
    [fault] = faults_since(store, NOW + timedelta(minutes=30))
    assert f"{CHAIN} is missing" in fault
    assert faults_since(store, NOW + timedelta(hours=2)) == []


def test_a_record_that_tells_no_time_counts_until_its_own_chain_ended(
    store: MemoryObjects,
) -> None:
    """Chains of earlier versions do not say when those before them ended."""
    [head] = audit_check.last_ends(store, process="jobs", before=LATER, key=KEY)
    follow(store, head, legacy=True)
    store.delete_prefix(f"{FOLDER}{CHAIN}/")
    names = [LATER]
    for since, gone in ((LATER_AT, 1), (LATER_AT + timedelta(seconds=1), 0)):
        found = audit_check.check(store, names, key=KEY, since=since)
        assert sum(bool(report.fault) for report in found) == gone


def test_chains_from_before_there_was_a_key_are_passed_over_by_time() -> None:
    """As the manual says of a key that was set later; asked for by no time they are faults."""
    store = MemoryObjects()
    write(store, key=None)
    assert faults_since(store, NOW + timedelta(hours=1)) == []
    assert len(faults(store)) == 1


def test_a_chain_names_none_that_is_not_before_it(store: MemoryObjects) -> None:
    """Else a chain could be due that was read already."""
    follow(store, Head(NOW, "jobs-20260303T080000Z-00000000", Link(1, "0")))
    assert any("names a chain that is not before it" in fault for fault in faults(store))


def test_folders_without_heads_keep_no_chain_from_being_named(store: MemoryObjects) -> None:
    """Whoever writes the store may put any number of them; a head of another does not count."""
    head = store.data[f"{FOLDER}{CHAIN}/{HEAD}"]
    for number in range(40):
        store.put(f"{FOLDER}jobs-20260301T13{number:02}00Z-00000000/x", b"")
        store.put(f"{FOLDER}jobs-20260301T14{number:02}00Z-00000000/{HEAD}", head)
    found = audit_check.last_ends(store, process="jobs", before=LATER, key=KEY)
    assert [each.chain for each in found] == [CHAIN]


DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"count": float("inf")},
        {"count": float("nan")},
        {"at": "0001-01-01T00:00:00+14:00"},
        {"at": 5},
        DEEP,
        b"\xff",
    ],
    ids=str,
)
def test_a_head_that_cannot_be_read_is_a_fault(
    store: MemoryObjects, change: dict[str, object] | bytes
) -> None:
    """And no crash: the log of all others is checked, and followed, nevertheless."""
    where = f"{FOLDER}{CHAIN}/{HEAD}"
    if isinstance(change, bytes):
        store.data[where] = change
    else:
        store.data[where] = json.dumps(json.loads(store.data[where]) | change).encode()
    assert faults(store) == [f"{where} is no head"]
    assert audit_check.last_ends(store, process="jobs", before=LATER, key=KEY) == []


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", DEEP.decode()])
def test_a_line_that_cannot_be_read_is_named(store: MemoryObjects, word: str) -> None:
    """Words that Python reads as numbers, and a depth that it does not read."""
    edit(store, 4, lambda lines: [lines[0].replace(b"1.25", word.encode()), *lines[1:]])
    assert faults(store) == [f"{segment(4)} line 1 is no record"]


@pytest.mark.parametrize(
    "change", [{"count": "many"}, {"count": None}, {"head_at": "noon"}, {"head_at": 5}]
)
def test_a_line_that_names_no_chain_is_named(
    store: MemoryObjects, change: dict[str, object]
) -> None:
    """Without a key anybody can write one that fits its hash."""
    line, end = sealed(beginning(LATER, KEY), followed(Head(NOW, CHAIN, Link(9, ""))) | change, KEY)
    store.put(f"{FOLDER}{LATER}/{segment_name(1)}", line.encode())
    store.put(f"{FOLDER}{LATER}/{HEAD}", head_bytes(Head(NOW, LATER, end), KEY))
    assert faults(store) == [f"{FOLDER}{LATER}/{segment_name(1)} line 1 names no chain before it"]


def test_chains_are_chosen_by_time(store: MemoryObjects) -> None:
    """One that ended before a span, or began after it, is not read."""

    def chosen(since: datetime | None, until: datetime | None) -> list[str]:
        return audit_check.chains(store, since=since, until=until, key=KEY)

    day = timedelta(days=1)
    assert chosen(NOW - day, NOW + day) == [CHAIN]
    assert chosen(NOW + day, None) == []
    assert chosen(None, NOW - day) == []


def test_a_chains_name_tells_when_it_began() -> None:
    """And a name of another form tells nothing."""
    assert started(chain_name("inference", at=NOW)) == NOW
    assert started("models") is None
    assert started("a-b-c") is None


def test_a_short_key_is_refused() -> None:
    """A key that can be guessed would seal nothing."""
    with pytest.raises(ValueError, match="32 characters"):
        AuditSettings.model_validate({"key": "short"})
    assert AuditSettings().key_bytes is None
