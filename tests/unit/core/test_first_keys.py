"""The first keys of an installation: made once, and what follows from them kept right."""

from __future__ import annotations

import json

import pytest

from histill.core.api_keys import digest, is_whole
from histill.core.errors import FailedPreconditionError
from histill.core.first_keys import HOLDERS, Bundled, changes
from histill.core.service_settings import AuthSettings

OURS = {"admin-key", "test-key", "api-keys", "seal", "audit-key"}
SERVERS = {"redis-password", "redis-url", "s3-access-key", "s3-secret-key"}
BOTH = Bundled(redis="redis:6379", s3=True)
OTHER = {"id": "pacs", "role": "operator", "sha256": "0" * 64, "project": "ward"}


def coded(values: dict[str, str]) -> dict[str, bytes]:
    return {name: value.encode() for name, value in values.items()}


def completed(
    values: dict[str, str], bundled: Bundled = BOTH, *, guests: bool = False
) -> dict[str, str]:
    return values | changes(coded(values), bundled=bundled, guests=guests)


def test_every_key_is_made_and_none_is_like_another() -> None:
    """All of the list, API keys as histill keys makes them, long enough for every setting."""
    made = completed({}, guests=True)
    assert made.keys() == OURS | {"web-key"} | SERVERS
    assert len(set(made.values())) == len(made)
    assert all(is_whole(made[name]) for name in HOLDERS)
    assert all(len(made[name]) >= 32 for name in ("seal", "audit-key", "redis-password"))
    assert completed({}, guests=True) != made


def test_keys_of_servers_of_others_are_not_made() -> None:
    """Without a bundled server its keys stay with the operator."""
    assert completed({}, Bundled()).keys() == OURS
    assert completed({}, Bundled(s3=True)).keys() == OURS | {"s3-access-key", "s3-secret-key"}


def test_what_is_there_stays() -> None:
    """A whole Secret needs no change, and one that lacks a key gets that one only."""
    whole = completed({}, guests=True)
    assert changes(coded(whole), bundled=BOTH) == {}
    assert changes(coded(whole | {"other": "x"}), bundled=BOTH) == {}
    for name in OURS | {"web-key"} | SERVERS:
        lacking = coded(whole) | {name: b""}
        made = changes(lacking, bundled=BOTH, guests=True)
        follows = {"redis-password": {"redis-url"}} | {key: {"api-keys"} for key in HOLDERS}
        assert made.keys() == {name} | follows.get(name, set())


def test_services_take_the_holders_with_their_roles() -> None:
    """api-keys loads as settings, with the hashes of the plain keys."""
    made = completed({}, guests=True)
    auth = AuthSettings.model_validate({"api_keys": json.loads(made["api-keys"])})
    assert [(key.id, key.role, key.sha256, key.project) for key in auth.api_keys] == [
        ("admin-key", "admin", digest(made["admin-key"]), "default"),
        ("test-key", "admin", digest(made["test-key"]), "default"),
        ("web-key", "viewer", digest(made["web-key"]), "default"),
    ]


def test_where_everybody_signs_in_guests_have_no_key() -> None:
    """None is made; one that an older installation has stays, and ends when it is removed."""
    whole = completed({})
    assert "web-key" not in whole
    assert {each["id"] for each in json.loads(whole["api-keys"])} == {"admin-key", "test-key"}
    older = completed({}, guests=True)
    assert changes(coded(older), bundled=BOTH) == {}
    rotated = completed(older | {"web-key": "mine"})
    assert digest("mine") in rotated["api-keys"]
    removed = changes(coded({k: v for k, v in older.items() if k != "web-key"}), bundled=BOTH)
    assert removed.keys() == {"api-keys"}
    assert digest(older["web-key"]) not in removed["api-keys"]
    later = completed(whole, guests=True)
    assert later.items() >= {key: whole[key] for key in whole if key != "api-keys"}.items()
    assert digest(later["web-key"]) in later["api-keys"]


def test_a_key_changed_by_hand_takes_effect_and_other_holders_stay() -> None:
    """Only the hash that no longer fits is written again; who else was added is kept."""
    whole = completed({})
    entries = [OTHER, *json.loads(whole["api-keys"])]
    whole |= {"api-keys": json.dumps(entries, indent=1)}
    assert changes(coded(whole), bundled=BOTH) == {}
    made = changes(coded(whole | {"admin-key": "mine"}), bundled=BOTH)
    assert made.keys() == {"api-keys"}
    found = {entry["id"]: entry for entry in json.loads(made["api-keys"])}
    assert found["admin-key"]["sha256"] == digest("mine")
    assert found["pacs"] == OTHER
    assert found["test-key"]["sha256"] == digest(whole["test-key"])


def test_the_url_of_redis_follows_its_password_and_its_host() -> None:
    """With what is special in a password percent-encoded."""
    whole = completed({})
    assert whole["redis-url"] == f"redis://:{whole['redis-password']}@redis:6379/0"
    made = changes(coded(whole | {"redis-password": "a/b@c"}), bundled=BOTH)
    assert made == {"redis-url": "redis://:a%2Fb%40c@redis:6379/0"}
    moved = changes(coded(whole), bundled=Bundled(redis="[::1]:7", s3=True))
    assert moved["redis-url"].endswith("@[::1]:7/0")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"admin-key": "told\n"}, "admin-key begins or ends with white space"),
        ({"admin-key": "told", "test-key": "told"}, "admin-key and test-key are the same"),
        ({"api-keys": "{told"}, "api-keys is no list of keys"),
        ({"api-keys": '[{"id": "pacs", "sha256": "told", "role": "operator"}]'}, "0.sha256"),
        ({"api-keys": '["told"]'}, "api-keys is no list of keys"),
        (
            {"web-key": "told", "api-keys": json.dumps([OTHER | {"sha256": digest("told")}])},
            "pacs of api-keys has the same key as web-key",
        ),
    ],
)
def test_what_cannot_be_used_is_named_without_its_value(values: dict[str, str], words: str) -> None:
    """Nothing is written over it: somebody meant something by it."""
    with pytest.raises(FailedPreconditionError, match=words) as caught:
        completed(values)
    assert "told" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "bundled", "made"),
    [
        ("seal", Bundled(), True),
        ("redis-url", Bundled(), False),
        ("redis-url", BOTH, True),
        ("s3-secret-key", Bundled(redis="redis:6379"), False),
        ("s3-secret-key", BOTH, True),
    ],
)
@pytest.mark.parametrize("value", [b"told\n", b"\xff"])
def test_only_what_is_made_again_may_be_removed(
    name: str,
    bundled: Bundled,
    made: bool,  # noqa: FBT001 - a parameter of the test
    value: bytes,
) -> None:
    """Keys of an operator's own server are nowhere else, and would be gone."""
    with pytest.raises(FailedPreconditionError, match=name) as caught:
        changes({name: value}, bundled=bundled)
    assert ("remove it" in str(caught.value)) == made
    if made:
        assert name in changes({}, bundled=bundled)


def test_bytes_that_are_no_text_are_named() -> None:
    """In a key of ours; others may hold anything."""
    assert changes({"other": b"\xff"}, bundled=Bundled()).keys() == OURS
    with pytest.raises(FailedPreconditionError, match="seal is no text"):
        changes({"seal": b"\xff"}, bundled=Bundled())
