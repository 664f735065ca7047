"""Models and datasets in an object store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryObjects, MemoryVersions
from histill.core import catalog
from histill.core.catalog import MODELS
from histill.core.errors import (
    CorruptArtifactError,
    FailedPreconditionError,
    NotFoundError,
    StorageUnavailableError,
)
from histill.core.manifests import ModelManifest, ModelRole, Normalization
from histill.core.names import Reference, parse_reference
from histill.core.specs import NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def manifest(path: Path, name: str = "m") -> ModelManifest:
    return ModelManifest(
        name=name,
        version=0,
        role=ModelRole.STUDENT,
        network=NetworkSpec(),
        channels=1,
        classes=("background", "object"),
        normalization=Normalization(mean=(0.0,), std=(1.0,)),
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
        files=(catalog.file_of(path),),
    )


@pytest.fixture
def store() -> MemoryObjects:
    """An empty store."""
    return MemoryObjects()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file to publish."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"weights" * 1000)
    return path


def publish(store: MemoryObjects, weights: Path, name: str = "m") -> ModelManifest:
    return catalog.publish(store, MemoryVersions(), MODELS, manifest(weights, name), [weights])


def test_versions_count_up_and_the_latest_is_found(store: MemoryObjects, weights: Path) -> None:
    """A bare name means the latest version, a number that version."""
    assert [publish(store, weights).version for _ in range(3)] == [1, 2, 3]
    assert catalog.find(store, MODELS, "m").version == 3
    assert catalog.find(store, MODELS, "m@2").version == 2
    with pytest.raises(NotFoundError, match=r"model m@4 does not exist"):
        catalog.find(store, MODELS, "m@4")
    with pytest.raises(NotFoundError, match=r"model x does not exist"):
        catalog.find(store, MODELS, "x")


def test_without_its_manifest_a_version_does_not_exist(store: MemoryObjects, weights: Path) -> None:
    """Files of an upload that was cut are invisible, and their number is not used again."""
    publish(store, weights)
    store.put("models/m/2/weights.safetensors", b"half")
    assert catalog.find(store, MODELS, "m").version == 1
    assert [m.version for m in catalog.iterate(store, MODELS)] == [1]
    assert publish(store, weights).version == 3


def test_a_failed_publication_leaves_nothing(store: MemoryObjects, weights: Path) -> None:
    """When the store refuses in the middle, what was written is removed."""

    class Refusing(MemoryObjects):
        def put(self, key: str, data: bytes) -> None:
            del key, data
            raise StorageUnavailableError("full")

    refusing = Refusing(store.data)
    with pytest.raises(StorageUnavailableError):
        publish(refusing, weights)
    assert store.data == {}


def test_aliases_follow_and_protect_their_version(store: MemoryObjects, weights: Path) -> None:
    """An alias resolves to its version, and that version cannot be deleted."""
    publish(store, weights)
    publish(store, weights)
    catalog.set_alias(store, Reference("m", version=1), "production")
    assert catalog.find(store, MODELS, "m@production").version == 1
    assert catalog.aliases(store, "m") == {"production": 1}
    with pytest.raises(FailedPreconditionError, match="production"):
        catalog.delete(store, MODELS, parse_reference("m@1", field="f"))
    catalog.set_alias(store, Reference("m"), "production")
    catalog.delete(store, MODELS, parse_reference("m@1", field="f"))
    assert [m.version for m in catalog.iterate(store, MODELS)] == [2]
    catalog.delete_alias(store, "m", "production")
    with pytest.raises(NotFoundError):
        catalog.delete_alias(store, "m", "production")


def test_fetched_files_are_checked(store: MemoryObjects, weights: Path, tmp_path: Path) -> None:
    """A file arrives as it was, and a changed one is refused."""
    published = publish(store, weights)
    for _ in catalog.fetch(store, MODELS, published, tmp_path / "out"):
        pass
    assert (tmp_path / "out" / weights.name).read_bytes() == weights.read_bytes()
    store.data["models/m/1/weights.safetensors"] = b"tampered"
    with pytest.raises(CorruptArtifactError, match=r"m@1/weights\.safetensors"):
        list(catalog.fetch(store, MODELS, published, tmp_path / "again"))


def test_a_broken_manifest_is_told_from_a_missing_one(store: MemoryObjects, weights: Path) -> None:
    """What is no manifest is corrupt, not absent."""
    publish(store, weights)
    store.put("models/m/1/manifest.json", b"{}")
    with pytest.raises(CorruptArtifactError, match="models/m/1"):
        catalog.find(store, MODELS, "m")


def test_a_file_larger_than_promised_is_not_read_on(store: MemoryObjects, weights: Path) -> None:
    """An object without end costs what its manifest says, and no more."""
    made = publish(store, weights)
    (file,) = made.files
    taken = 0

    def endless(key: str, *, chunk_size: int = 0) -> Iterator[bytes]:
        nonlocal taken
        del key, chunk_size
        while True:
            taken += 1
            yield b"x" * file.size

    store.read = endless  # type: ignore[method-assign] # of one object
    with pytest.raises(CorruptArtifactError, match="has more than the"):
        list(catalog.read_file(store, catalog.MODELS, made, file))
    assert taken == 2
    with pytest.raises(CorruptArtifactError, match="has more than 16777216 bytes"):
        catalog.find(store, catalog.MODELS, "m@1")


def test_damaged_aliases_and_folders_break_no_list(store: MemoryObjects, weights: Path) -> None:
    """Whoever asks for the alias is told; the others and all versions are listed on."""
    publish(store, weights)
    catalog.set_alias(store, Reference("m", 1), "good")
    store.put("models/m/aliases/bad", b"one")
    store.put("models/m/aliases/odd", "\u00b2".encode())
    store.put("models/m/\u00b2/manifest.json", b"{}")
    store.put(f"models/m/{'9' * 5000}/manifest.json", b"{}")
    assert catalog.aliases(store, "m") == {"good": 1}
    assert catalog.versions(store, catalog.MODELS, "m") == [1]
    with pytest.raises(CorruptArtifactError, match="holds no version number"):
        catalog.find(store, catalog.MODELS, "m@bad")
    catalog.delete_alias(store, "m", "bad")
    with pytest.raises(NotFoundError):
        catalog.find(store, catalog.MODELS, "m@bad")
