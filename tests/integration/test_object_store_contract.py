"""The object store's contract, on the real S3 server and on the fake of the unit tests."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryObjects
from histill.adapters.s3 import S3ObjectStore
from histill.core.errors import NotFoundError, StorageUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3
    from histill.core.ports import ObjectStore


@pytest.fixture(params=["s3", "memory"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """One implementation after the other, empty."""
    if request.param == "memory":
        return MemoryObjects()
    settings = request.getfixturevalue("s3").settings
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    made = S3ObjectStore.connect(settings.model_copy(update={"bucket": bucket}))
    made.ensure_bucket()
    return made


def test_what_was_put_is_got(store: ObjectStore) -> None:
    """Bytes come back as they were, and a second put replaces the first."""
    store.put("a/b.bin", b"one")
    store.put("a/b.bin", b"two")
    assert store.get("a/b.bin") == b"two"
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_a_file_larger_than_a_part_survives(store: ObjectStore, tmp_path: Path) -> None:
    """A file that needs a multipart upload comes back whole, in chunks."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 70_000)
    store.put_file("large", path)
    chunks = list(store.read("large", chunk_size=1 << 20))
    assert b"".join(chunks) == path.read_bytes()
    assert max(map(len, chunks)) <= 1 << 20


def test_a_reader_may_stop_early(store: ObjectStore) -> None:
    """Closing the iterator after one chunk leaves the store usable."""
    store.put("k", bytes(3 << 20))
    reader = iter(store.read("k"))
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert len(store.get("k")) == 3 << 20


def test_missing_objects_are_told_apart(store: ObjectStore) -> None:
    """Getting what is not there raises NotFoundError; deleting it is no error."""
    with pytest.raises(NotFoundError, match="nowhere"):
        store.get("nowhere")
    with pytest.raises(NotFoundError):
        next(iter(store.read("nowhere")))
    store.delete("nowhere")


def test_listing_is_sorted_and_deep_or_by_folder(store: ObjectStore) -> None:
    """Keys list at any depth, folders at one level."""
    for key in ("m/b/2/x", "m/a/1/y", "m/a/10/z", "m/top", "n/c"):
        store.put(key, b".")
    assert list(store.list("m/a/")) == ["m/a/1/y", "m/a/10/z"]
    assert sorted(store.list_folders("m/")) == ["a", "b"]
    assert sorted(store.list_folders("m/a/")) == ["1", "10"]
    assert list(store.list_folders("nothing/")) == []


def test_a_prefix_is_deleted_and_nothing_else(store: ObjectStore) -> None:
    """Only keys under the prefix go."""
    for key in ("p/1", "p/2/3", "pq"):
        store.put(key, b".")
    store.delete_prefix("p/")
    assert list(store.list("p")) == ["pq"]


def test_a_wrong_key_is_named(s3: S3) -> None:
    """A refused signature names the setting to correct."""
    wrong = s3.settings.model_copy(update={"secret_key": s3.settings.secret_key.__class__("no")})
    with pytest.raises(StorageUnavailableError, match="HISTILL_S3__SECRET_KEY"):
        S3ObjectStore.connect(wrong).ping()


def test_a_server_that_is_away_is_named(s3: S3) -> None:
    """A refused connection names the setting to look at, without a long wait."""
    away = s3.settings.model_copy(update={"endpoint": "127.0.0.1:9", "timeout_s": 1.0})
    with pytest.raises(StorageUnavailableError, match="HISTILL_S3__ENDPOINT"):
        S3ObjectStore.connect(away).get("x")
