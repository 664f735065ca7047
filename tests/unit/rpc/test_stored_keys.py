"""How a service follows the stored keys."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from fakes import MemoryObjects
from histill.core import access
from histill.core.errors import StorageUnavailableError
from histill.rpc.stored_keys import StoredKeys

NOW = datetime(2026, 1, 10, tzinfo=UTC)
SEAL = b"s" * 32


@dataclass
class Objects(MemoryObjects):
    """Counts readings, and may be away."""

    reads: int = 0
    away: bool = False

    def get(self, key: str) -> bytes:
        if self.away:
            raise StorageUnavailableError("away")
        self.reads += 1
        return super().get(key)


def add(objects: MemoryObjects, seal: bytes | None = None) -> access.AccessKey:
    return access.create(
        objects, role="viewer", project="team", description="d", ttl=None, creator="c", now=NOW,
        seal=seal,
    )[0]  # fmt: skip


def test_keys_are_read_again_only_when_they_have_changed() -> None:
    """A look costs one small object, however many keys there are."""
    objects = Objects()
    made = [add(objects) for _ in range(20)]
    keys = StoredKeys(objects, every_s=1)
    assert (keys.loaded, keys.find(made[0].sha256)) == (False, None)
    keys.refresh()
    assert keys.find(made[0].sha256) == made[0]
    objects.reads = 0
    for _ in range(5):
        keys.refresh()
    assert objects.reads == 5
    access.revoke(objects, made[0].id, now=NOW, may=lambda _: True)
    keys.refresh()
    found = keys.find(made[0].sha256)
    assert found
    assert found.revoke_time == NOW


def test_a_change_costs_what_has_changed() -> None:
    """Of many keys only the new and the newly revoked ones are read."""
    objects = Objects()
    made = [add(objects) for _ in range(20)]
    keys = StoredKeys(objects, every_s=1)
    keys.refresh()
    for key in made[:2]:
        access.revoke(objects, key.id, now=NOW, may=lambda _: True)
    new = add(objects)
    objects.reads = 0
    keys.refresh()
    assert objects.reads == 1 + 3
    assert keys.find(new.sha256) == new
    ended = [keys.find(key.sha256) for key in made]
    assert [key.revoke_time for key in ended if key] == [NOW] * 2 + [None] * 18
    access.revoke(objects, new.id, now=NOW, may=lambda _: True)
    objects.reads = 0
    keys.refresh()
    assert objects.reads == 1 + 1


def test_keys_that_were_changed_by_hand_are_found_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are read again in any case after a while."""
    objects = Objects()
    key = add(objects)
    keys = StoredKeys(objects, every_s=1)
    keys.refresh()
    del objects.data[f"access/keys/{key.id}.json"]
    keys.refresh()
    assert keys.find(key.sha256) == key
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    keys.refresh()
    assert keys.find(key.sha256) is None


def test_the_last_keys_stay_while_the_store_is_away() -> None:
    """Neither lost nor let in: what was known stays known, and nothing else."""
    objects = Objects()
    key = add(objects)
    keys = StoredKeys(objects, every_s=0.01)
    with keys.followed():
        wait_for(lambda: keys.loaded)
        objects.away = True
        time.sleep(0.1)
        assert keys.find(key.sha256) == key
        objects.away = False
        other = add(objects)
        wait_for(lambda: keys.find(other.sha256) is not None)


def test_a_store_that_was_never_there_lets_nobody_in() -> None:
    """Keys are not loaded until they have been read once."""
    keys = StoredKeys(Objects(away=True), every_s=1)
    with pytest.raises(StorageUnavailableError):
        keys.refresh()
    assert not keys.loaded


def test_following_outlives_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in one look does not keep revoked keys alive."""
    objects = Objects()
    keys = StoredKeys(objects, every_s=0.01)
    real, broken = access.changed, [True]

    def changed(store: MemoryObjects) -> str:
        if broken.pop() if broken else False:
            raise ValueError("a bug")
        return real(store)

    monkeypatch.setattr(access, "changed", changed)
    with keys.followed():
        wait_for(lambda: keys.loaded)
    assert not broken


def test_a_key_that_somebody_put_into_the_store_opens_nothing() -> None:
    """With a seal; the log says which it is, once."""
    objects = Objects()
    good, forged = add(objects, SEAL), add(objects)
    keys = StoredKeys(objects, every_s=1, seal=SEAL)
    with capture_logs() as lines:
        keys.refresh()
        add(objects, SEAL)
        keys.refresh()
    assert keys.find(good.sha256) == good
    assert keys.find(forged.sha256) is None
    told = [line for line in lines if line["event"] == "stored_key_skipped"]
    assert [line["key"] for line in told] == [forged.id]


@pytest.mark.parametrize("marked", [True, False])
def test_a_revoked_key_does_not_come_back(monkeypatch: pytest.MonkeyPatch, marked: bool) -> None:  # noqa: FBT001
    """Its old record fits the seal: who saw its end knows better, and later ones by its mark."""
    objects = Objects()
    key = add(objects, SEAL)
    name = f"access/keys/{key.id}.json"
    before = objects.data[name]
    access.revoke(objects, key.id, now=NOW, may=lambda _: True, seal=SEAL)
    if not marked:
        del objects.data[f"access/revoked/{key.id}"]
    keys = StoredKeys(objects, every_s=1, seal=SEAL)
    keys.refresh()
    start = time.monotonic()
    # First it is gone, so that the service forgets the record; then another one is there.
    for minutes, data in ((2, None), (4, before)):
        objects.data.pop(name) if data is None else objects.data.update({name: data})
        monkeypatch.setattr(time, "monotonic", lambda now=start + minutes * 60: now)
        with capture_logs() as lines:
            keys.refresh()
    found = keys.find(key.sha256)
    assert found
    assert found.revoke_time
    assert "stored_key_unrevoked" in {line["event"] for line in lines}
    if marked:
        fresh = StoredKeys(objects, every_s=1, seal=SEAL)
        fresh.refresh()
        again = fresh.find(key.sha256)
        assert again
        assert again.revoke_time


def test_a_revocation_whose_mark_is_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All records are read again now and then."""
    objects = Objects()
    key = add(objects, SEAL)
    keys = StoredKeys(objects, every_s=1, seal=SEAL)
    keys.refresh()
    access.revoke(objects, key.id, now=NOW, may=lambda _: True, seal=SEAL)
    del objects.data[f"access/revoked/{key.id}"]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 901)
    keys.refresh()
    found = keys.find(key.sha256)
    assert found
    assert found.revoke_time == NOW


@pytest.mark.parametrize(("seal", "stored", "warned"), [(None, 1, 1), (None, 0, 0), (SEAL, 1, 0)])
def test_keys_without_a_seal_are_warned_of_once(
    seal: bytes | None, stored: int, warned: int
) -> None:
    """When the service starts, and where there are any."""
    objects = Objects()
    for _ in range(stored):
        add(objects, seal)
    keys = StoredKeys(objects, every_s=1, seal=seal)
    with capture_logs() as lines:
        keys.refresh()
        add(objects, seal)
        keys.refresh()
    assert sum(line["event"] == "stored_keys_not_sealed" for line in lines) == warned


def wait_for(what: object) -> None:
    assert callable(what)
    deadline = time.monotonic() + 5
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)
