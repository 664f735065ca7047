"""Stored keys: what is stored, what is not, and how ends are kept."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import MemoryObjects
from histill.core import access
from histill.core.api_keys import digest, is_whole, new_secret
from histill.core.errors import CorruptArtifactError, InvalidArgumentError, NotFoundError
from histill.core.service_settings import AuthSettings

if TYPE_CHECKING:
    from histill.core.access import AccessKey

NOW = datetime(2026, 1, 10, tzinfo=UTC)
SEAL = b"s" * 32


def make(
    objects: MemoryObjects, ttl: timedelta | None = None, *, seal: bytes | None = None
) -> tuple[AccessKey, str]:
    return access.create(
        objects, role="viewer", project="team", description="the PACS", ttl=ttl, creator="ada",
        now=NOW, seal=seal,
    )  # fmt: skip


def sealed(objects: MemoryObjects) -> tuple[list[AccessKey], dict[str, str]]:
    """What is read with the seal, and what is passed over."""
    skipped: dict[str, str] = {}
    return access.every(objects, skipped=skipped.__setitem__, seal=SEAL), skipped


def everyone(objects: MemoryObjects) -> list[AccessKey]:
    skipped: dict[str, str] = {}
    found = access.every(objects, skipped=skipped.__setitem__)
    assert skipped == {}
    return found


def test_secrets_can_be_recognised() -> None:
    """A scanner finds them by one pattern, and no two are alike."""
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch(r"hst_[0-9A-Za-z]{36}", secret) for secret in made)
    assert all(is_whole(secret) for secret in made)


@given(st.integers(4, 39), st.sampled_from("0123456789ABCxyz_-. "))
def test_a_typing_error_is_seen(place: int, letter: str) -> None:
    """Any single letter that is wrong breaks the checksum."""
    secret = new_secret()
    wrong = secret[:place] + letter + secret[place + 1 :]
    assert is_whole(wrong) == (wrong == secret)


def test_a_cut_or_foreign_key_is_not_whole() -> None:
    """What was copied in part, or comes from elsewhere, is told apart."""
    secret = new_secret()
    assert not any(map(is_whole, ("", "hst_", secret[:-1], secret + "a", secret[4:])))


def test_the_secret_is_not_stored() -> None:
    """Only its hash is, in one object of that id."""
    objects = MemoryObjects()
    key, secret = make(objects)
    assert set(objects.data) == {f"access/keys/{key.id}.json", "access/changed"}
    record = json.loads(objects.data[f"access/keys/{key.id}.json"])
    assert record["sha256"] == digest(secret)
    assert all(secret[4:] not in data.decode() for data in objects.data.values())


def test_every_change_is_told() -> None:
    """The word that services watch differs after each, and after a repeated revocation too."""
    objects = MemoryObjects()
    words = [access.changed(objects)]
    key, _ = make(objects)
    words.append(access.changed(objects))
    for _ in range(2):
        access.revoke(objects, key.id, now=NOW, may=lambda _: True)
        words.append(access.changed(objects))
    assert len(set(words)) == 4


def test_a_key_is_revoked_once_and_for_good() -> None:
    """A second revocation keeps the time of the first; the record stays."""
    objects = MemoryObjects()
    key, _ = make(objects, timedelta(days=1))
    later = NOW + timedelta(hours=1)
    access.revoke(objects, key.id, now=NOW, may=lambda _: True)
    again = access.revoke(objects, key.id, now=later, may=lambda _: True)
    assert (again.revoke_time, again.expire_time) == (NOW, NOW + timedelta(days=1))
    assert everyone(objects) == [again]


def test_another_projects_key_is_no_key() -> None:
    """Who may not end it hears what he hears of none, and it goes on."""
    objects = MemoryObjects()
    key, _ = make(objects)
    words = []
    for key_id in (key.id, "0" * 16):
        with pytest.raises(NotFoundError) as caught:
            access.revoke(objects, key_id, now=NOW, may=lambda _: False)
        words.append(str(caught.value).replace(key_id, "ID"))
    assert words[0] == words[1]
    assert everyone(objects)[0].revoke_time is None


@pytest.mark.parametrize("key_id", ["", "../keys", "A" * 16, "0" * 15, "0" * 16 + ".json"])
def test_an_id_is_no_path(key_id: str) -> None:
    """Nothing but an id reaches the store."""
    with pytest.raises(InvalidArgumentError, match="key_id"):
        access.revoke(MemoryObjects(), key_id, now=NOW, may=lambda _: True)


@pytest.mark.parametrize("ttl", [timedelta(0), timedelta(seconds=59), timedelta(days=3654)])
def test_an_end_out_of_range_is_refused(ttl: timedelta) -> None:
    """Below a minute and beyond ten years; nothing is stored."""
    objects = MemoryObjects()
    with pytest.raises(InvalidArgumentError, match="ttl"):
        make(objects, ttl)
    assert objects.data == {}


def test_a_damaged_record_ends_its_own_key_only() -> None:
    """The others are read; the id is told."""
    objects = MemoryObjects()
    good, _ = make(objects)
    for bad in ("1" * 16, "2" * 16):
        objects.data[f"access/keys/{bad}.json"] = (
            b"{" if bad[0] == "1" else objects.data[f"access/keys/{good.id}.json"]
        )
    skipped: dict[str, str] = {}
    assert access.every(objects, skipped=skipped.__setitem__) == [good]
    assert set(skipped) == {"1" * 16, "2" * 16}


def test_who_writes_the_store_makes_no_key() -> None:
    """With a seal, a record without it or with another one is passed over, with words."""
    objects = MemoryObjects()
    good, _ = make(objects, timedelta(days=1), seal=SEAL)
    plain, _ = make(objects)
    other, _ = make(objects, seal=b"x" * 32)
    keys, skipped = sealed(objects)
    assert keys == [good]
    assert set(skipped) == {plain.id, other.id}
    assert all("is not sealed with HISTILL_AUTH__SEAL" in why for why in skipped.values())
    with pytest.raises(CorruptArtifactError, match="make another key"):
        access.revoke(objects, plain.id, now=NOW, may=lambda _: True, seal=SEAL)


@pytest.mark.parametrize(
    ("field", "value"),
    [("role", "admin"), ("project", "default"), ("sha256", "0" * 64), ("expire_time", None)],
)
def test_a_sealed_record_cannot_be_changed(field: str, value: str | None) -> None:
    """Neither what its holder may nor whose secret it is, nor its end."""
    objects = MemoryObjects()
    key, _ = make(objects, timedelta(days=1), seal=SEAL)
    name = f"access/keys/{key.id}.json"
    objects.data[name] = json.dumps(json.loads(objects.data[name]) | {field: value}).encode()
    keys, skipped = sealed(objects)
    assert (keys, set(skipped)) == ([], {key.id})


def test_a_revocation_is_sealed_too() -> None:
    """Its time can neither be taken out, nor is a record from before taken as long as it shows."""
    objects = MemoryObjects()
    key, _ = make(objects, seal=SEAL)
    name = f"access/keys/{key.id}.json"
    before = objects.data[name]
    ended = access.revoke(objects, key.id, now=NOW, may=lambda _: True, seal=SEAL)
    assert sealed(objects) == ([ended], {})
    fields = json.loads(objects.data[name]) | {"revoke_time": None}
    objects.data[name] = json.dumps(fields).encode()
    assert sealed(objects)[0] == []
    objects.data[name] = before
    [found] = sealed(objects)[0]
    assert found.revoke_time is not None


def test_without_a_seal_sealed_records_are_read() -> None:
    """So that the seal can be left out again, and services get it one after the other."""
    objects = MemoryObjects()
    key, _ = make(objects, seal=SEAL)
    assert everyone(objects) == [key]


def test_a_short_seal_is_refused() -> None:
    """One that can be guessed would seal nothing."""
    with pytest.raises(ValueError, match="seal must have 32 characters or more"):
        AuthSettings.model_validate({"seal": "short"})
    assert AuthSettings().seal_bytes is None
    assert AuthSettings.model_validate({"seal": "s" * 32}).seal_bytes == SEAL


@pytest.mark.parametrize("data", [b"[]", b"[" * 100_000, b"\xff", b'{"seal": NaN}'], ids=len)
def test_bytes_that_are_no_record_are_passed_over(data: bytes) -> None:
    """Whatever somebody put there, the other keys are read."""
    objects = MemoryObjects()
    good, _ = make(objects, seal=SEAL)
    objects.data[f"access/keys/{'1' * 16}.json"] = data
    keys, skipped = sealed(objects)
    assert (keys, set(skipped)) == ([good], {"1" * 16})


def test_a_time_without_its_zone_is_no_time() -> None:
    """It could not be compared with those of the others."""
    objects = MemoryObjects()
    key, _ = make(objects)
    name = f"access/keys/{key.id}.json"
    fields = json.loads(objects.data[name]) | {"expire_time": "2026-01-10T00:00:00"}
    objects.data[name] = json.dumps(fields).encode()
    skipped: dict[str, str] = {}
    assert access.every(objects, skipped=skipped.__setitem__) == []
    assert set(skipped) == {key.id}
