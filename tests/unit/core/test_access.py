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
from histill.core.errors import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from histill.core.access import AccessKey

NOW = datetime(2026, 1, 10, tzinfo=UTC)


def make(objects: MemoryObjects, ttl: timedelta | None = None) -> tuple[AccessKey, str]:
    return access.create(
        objects, role="viewer", project="team", description="the PACS", ttl=ttl, creator="ada",
        now=NOW,
    )  # fmt: skip


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
