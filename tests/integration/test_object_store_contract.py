"""The object store's contract, on the real S3 server, a project's part of it, and fakes."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryObjects
from histill.adapters.s3 import S3ObjectStore
from histill.core.errors import InvalidArgumentError, NotFoundError, StorageUnavailableError
from histill.core.projects import DEFAULT, scoped

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import S3
    from histill.core.ports import ObjectStore


@pytest.fixture(params=["s3", "memory"])
def whole(request: pytest.FixtureRequest) -> ObjectStore:
    """One implementation after the other, empty."""
    if request.param == "memory":
        return MemoryObjects()
    settings = request.getfixturevalue("s3").settings
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    made = S3ObjectStore.connect(settings.model_copy(update={"bucket": bucket}))
    made.ensure_bucket()
    return made


@pytest.fixture(params=[DEFAULT, "acme"])
def store(request: pytest.FixtureRequest, whole: ObjectStore) -> ObjectStore:
    """All of an implementation, and a project's part, beside what another project keeps."""
    if request.param != DEFAULT:
        scoped(whole, "acme2").put("p/1", b"another's")
    return scoped(whole, request.param)


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


def test_a_part_ends_where_the_next_begins(whole: ObjectStore, tmp_path: Path) -> None:
    """Whatever a project does with its part, another's part and the default one stay."""
    path = tmp_path / "file"
    path.write_bytes(b"file")
    others = [scoped(whole, each) for each in (DEFAULT, "acm", "acme-2", "zenith")]
    for other in others:
        other.put("models/m/1/x", b"other")
    mine = scoped(whole, "acme")
    assert list(mine.list("")) == list(mine.list_folders("")) == []
    with pytest.raises(NotFoundError):
        mine.get("models/m/1/x")
    mine.put("models/m/1/x", b"mine")
    mine.put_file("models/m/2/x", path)
    assert list(mine.list("")) == ["models/m/1/x", "models/m/2/x"]
    assert sorted(mine.list_folders("models/m/")) == ["1", "2"]
    mine.delete("models/m/1/x")
    mine.delete_prefix("")
    assert list(mine.list("")) == []
    for other in others:
        assert other.get("models/m/1/x") == b"other"
    assert list(others[0].list("models/")) == ["models/m/1/x"]


@pytest.mark.parametrize("project", ["", "../x", "a/b", "A", "projects/acme", "é", "-a", "a" * 64])
def test_a_part_has_a_plain_name(project: str) -> None:
    """No name of a project leads into the part of another."""
    with pytest.raises(InvalidArgumentError, match=r"^project: "):
        scoped(MemoryObjects(), project)


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
