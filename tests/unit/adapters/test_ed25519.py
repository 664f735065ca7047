"""Signed versions: only what somebody we trust published, where they published it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fakes import MemoryObjects, MemoryVersions
from histill.adapters.ed25519 import (
    PRIVATE,
    PUBLIC,
    Ed25519Signer,
    Ed25519Verifier,
    load_signing,
    new_pair,
)
from histill.core import catalog
from histill.core.catalog import MODELS
from histill.core.errors import (
    AlreadyExistsError,
    CorruptArtifactError,
    SettingsError,
    UntrustedArtifactError,
)
from histill.core.projects import scoped
from histill.core.signing import SIGNATURE, Signing, SigningSettings
from histill.core.trust import check_signature
from manifests import model

if TYPE_CHECKING:
    from pathlib import Path

    from histill.core.manifests import ModelManifest

SIGNED = f"models/teacher/1/{SIGNATURE}"
MANIFEST = "models/teacher/1/manifest.json"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with a pair of keys."""
    new_pair(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def signing(keys: Path) -> Signing:
    """What signs with that pair, and trusts it."""
    settings = SigningSettings(key=str(keys / PRIVATE), trusted=str(keys / PUBLIC))
    return load_signing(settings)


@pytest.fixture
def store() -> MemoryObjects:
    """An empty store."""
    return MemoryObjects()


def publish(
    store: Any, folder: Path, signing: Signing | None, *, project: str = "default"
) -> ModelManifest:
    path = folder / "weights.safetensors"
    path.write_bytes(b"weights")
    made = model(files=(catalog.file_of(path),))
    signer = signing.signer if signing else None
    return catalog.publish(
        store, MemoryVersions(), MODELS, made, [path], signer=signer, project=project
    )


def test_what_was_signed_is_trusted(store: MemoryObjects, signing: Signing, tmp_path: Path) -> None:
    """Publishing signs, loading checks, and without a key neither is done."""
    published = publish(store, tmp_path, signing)
    check_signature(store, MODELS, published, signing.verifier)
    assert json.loads(store.get(SIGNED))["algorithm"] == "ed25519"
    bare = MemoryObjects()
    unsigned = publish(bare, tmp_path, None)
    assert SIGNED not in bare.data
    check_signature(bare, MODELS, unsigned, None)
    assert load_signing(SigningSettings()) == Signing()


def test_the_signature_is_there_before_the_version_is(signing: Signing, tmp_path: Path) -> None:
    """A version is complete at the moment at which it exists."""
    order: list[str] = []

    class Noting(MemoryObjects):
        def put(self, key: str, data: bytes) -> None:
            order.append(key)
            super().put(key, data)

    publish(Noting(), tmp_path, signing)
    assert order == [SIGNED, MANIFEST]


def test_an_unsigned_version_is_refused(
    store: MemoryObjects, signing: Signing, tmp_path: Path
) -> None:
    """The error names the version and the setting."""
    published = publish(store, tmp_path, None)
    with pytest.raises(UntrustedArtifactError, match=r"teacher@1 is not signed.*TRUSTED"):
        check_signature(store, MODELS, published, signing.verifier)


@pytest.mark.parametrize("where", [MANIFEST, SIGNED])
def test_a_change_of_manifest_or_signature_is_refused(
    store: MemoryObjects, signing: Signing, tmp_path: Path, where: str
) -> None:
    """One other digit of a digest, or of the signature, is enough."""
    published = publish(store, tmp_path, signing)
    data = store.get(where)
    place = data.index(b'"sha256":"') + 10 if where == MANIFEST else data.rindex(b'"') - 4
    other = b"0" if data[place : place + 1] != b"0" else b"1"
    store.put(where, data[:place] + other + data[place + 1 :])
    with pytest.raises(UntrustedArtifactError, match="teacher@1"):
        check_signature(store, MODELS, published, signing.verifier)


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{}", b"\xff", b'{"key": 1}'])
def test_garbage_is_no_signature(
    store: MemoryObjects, signing: Signing, tmp_path: Path, garbage: bytes
) -> None:
    """Whatever lies there, the answer is that nobody signed."""
    published = publish(store, tmp_path, signing)
    store.put(SIGNED, garbage)
    with pytest.raises(UntrustedArtifactError):
        check_signature(store, MODELS, published, signing.verifier)


def test_a_manifest_that_was_swapped_after_it_was_found_is_refused(
    store: MemoryObjects, signing: Signing, tmp_path: Path
) -> None:
    """What is checked is what is going to be loaded."""
    published = publish(store, tmp_path, signing)
    foreign = published.model_copy(update={"channels": 3})
    with pytest.raises(UntrustedArtifactError, match="changed while"):
        check_signature(store, MODELS, foreign, signing.verifier)


def test_a_signed_version_stays_where_it_was_published(
    store: MemoryObjects, signing: Signing, tmp_path: Path
) -> None:
    """Copied to another project or another number, it is no longer what was signed."""
    publish(store, tmp_path, signing)
    for name in (MANIFEST, SIGNED):
        store.put(f"projects/acme/{name}", store.get(name))
        store.put(name.replace("/1/", "/2/"), store.get(name))
    acme = scoped(store, "acme")
    found = catalog.find(acme, MODELS, "teacher@1")
    with pytest.raises(UntrustedArtifactError, match="project"):
        check_signature(acme, MODELS, found, signing.verifier, project="acme")
    with pytest.raises(CorruptArtifactError, match=r"is the manifest of teacher@1"):
        catalog.find(store, MODELS, "teacher@2")


def test_keys_are_rotated_by_trusting_both(
    store: MemoryObjects, signing: Signing, keys: Path, tmp_path: Path
) -> None:
    """Old versions load until the old key is taken out of the file."""
    published = publish(store, tmp_path, signing)
    new_pair(tmp_path / "new")
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "new" / PUBLIC).read_bytes() + (keys / PUBLIC).read_bytes())
    check_signature(store, MODELS, published, Ed25519Verifier.load(both))
    only_new = Ed25519Verifier.load(tmp_path / "new" / PUBLIC)
    with pytest.raises(UntrustedArtifactError, match="not in HISTILL_SIGNING__TRUSTED"):
        check_signature(store, MODELS, published, only_new)


def test_a_private_key_is_its_owners_and_is_never_overwritten(keys: Path) -> None:
    """The file's mode is 600, and a second pair needs another folder."""
    assert (keys / PRIVATE).stat().st_mode & 0o777 == 0o600
    with pytest.raises(AlreadyExistsError, match="not overwritten"):
        new_pair(keys)


def test_a_wrong_file_is_named_with_its_setting(keys: Path, tmp_path: Path) -> None:
    """A missing file, the other half of the pair, and a key of another kind."""
    with pytest.raises(SettingsError, match="HISTILL_SIGNING__KEY"):
        Ed25519Signer.load(keys / PUBLIC)
    with pytest.raises(SettingsError, match="HISTILL_SIGNING__KEY"):
        Ed25519Signer.load(tmp_path / "none.pem")
    with pytest.raises(SettingsError, match="HISTILL_SIGNING__TRUSTED"):
        Ed25519Verifier.load(keys / PRIVATE)
    other = rsa.generate_private_key(65537, 2048).public_key()
    pem = other.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (tmp_path / "rsa.pem").write_bytes(pem + (keys / PUBLIC).read_bytes())
    with pytest.raises(SettingsError, match="HISTILL_SIGNING__TRUSTED"):
        Ed25519Verifier.load(tmp_path / "rsa.pem")
