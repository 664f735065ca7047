"""Models and datasets in the object store: publish, find, fetch, alias, delete.

Layout: ``{models|datasets}/{name}/{version}/{file}`` with ``manifest.json`` written
last, and ``models/{name}/aliases/{alias}`` holding a version number.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog
from pydantic import ValidationError

from histill.core.errors import (
    AlreadyExistsError,
    CorruptArtifactError,
    FailedPreconditionError,
    NotFoundError,
    UnavailableError,
)
from histill.core.manifests import ArtifactFile, DatasetManifest, ModelManifest
from histill.core.names import Reference, parse_reference
from histill.core.projects import DEFAULT
from histill.core.signing import SIGNATURE, statement

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from pathlib import Path

    from histill.core.ports import ObjectStore, VersionCounter
    from histill.core.signing import Signer

M = TypeVar("M", ModelManifest, DatasetManifest)
_CHUNK = 1 << 20
_MAX_MANIFEST_BYTES = 16 << 20
_MAX_NUMBER_BYTES = 18
log = structlog.get_logger()


@dataclass(frozen=True)
class Shelf(Generic[M]):
    """Where one kind of artifact lies, and how its manifest is read."""

    folder: str
    manifest_type: type[M]

    def prefix(self, name: str, version: int) -> str:
        """Key prefix of one version's files."""
        return f"{self.folder}/{name}/{version}/"

    def manifest_key(self, name: str, version: int) -> str:
        """Key of one version's manifest."""
        return f"{self.prefix(name, version)}manifest.json"


MODELS = Shelf("models", ModelManifest)
DATASETS = Shelf("datasets", DatasetManifest)


def file_of(path: Path) -> ArtifactFile:
    """Size and digest of a local file, read in chunks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return ArtifactFile(path=path.name, size=path.stat().st_size, sha256=digest.hexdigest())


def publish(
    store: ObjectStore,
    counter: VersionCounter,
    shelf: Shelf[M],
    manifest: M,
    files: Sequence[Path],
    *,
    before: Callable[[int], None] = lambda _: None,
    signer: Signer | None = None,
    project: str = DEFAULT,
) -> M:
    """Stores local files as a new version, its manifest last.

    Args:
        store: Where to.
        counter: Gives the version number.
        shelf: ``MODELS`` or ``DATASETS``.
        manifest: Everything but the version, which is replaced.
        files: One local file for each of ``manifest.files``, matched by name.
        before: Called with the version before its first file is stored, and again before
            its manifest is; may raise to stop it.
        signer: Signs it; ``None`` leaves it unsigned.
        project: That ``store`` belongs to; part of what is signed.

    Returns:
        The manifest with its version.

    Raises:
        AlreadyExistsError: The version number was taken meanwhile; a retry gets another.
    """
    latest = max(versions(store, shelf, manifest.name), default=0)
    version = counter.next(f"{shelf.folder}/{manifest.name}", at_least=latest + 1)
    published = manifest.model_copy(update={"version": version})
    prefix = shelf.prefix(manifest.name, version)
    if any(store.list(prefix)):
        raise AlreadyExistsError(f"{published.reference} exists already; try again")
    before(version)
    try:
        for path in files:
            store.put_file(prefix + path.name, path)
        before(version)
        data = published.model_dump_json().encode()
        if signer:
            store.put(prefix + SIGNATURE, signer.sign(statement(data, project=project)))
        store.put(f"{prefix}manifest.json", data)
    except BaseException:
        with suppress(UnavailableError):
            store.delete_prefix(prefix)
        raise
    return published


def versions(store: ObjectStore, shelf: Shelf[M], name: str) -> list[int]:
    """Version numbers in use or being written, ascending."""
    return sorted(
        int(folder)
        for folder in store.list_folders(f"{shelf.folder}/{name}/")
        if _is_number(folder)
    )


def _is_number(text: str) -> bool:
    """Whether it is written as versions are; digits of other scripts are none."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_NUMBER_BYTES


def _small(store: ObjectStore, key: str, *, most: int) -> bytes:
    """An object's bytes, which are few.

    Raises:
        NotFoundError: There is no such object.
        CorruptArtifactError: It has more bytes.
    """
    found = bytearray()
    for chunk in store.read(key):
        found += chunk
        if len(found) > most:
            raise CorruptArtifactError(f"{key} has more than {most} bytes")
    return bytes(found)


def read_manifest(store: ObjectStore, shelf: Shelf[M], name: str, version: int) -> M:
    """The manifest of a version.

    Raises:
        NotFoundError: There is no such version.
        CorruptArtifactError: What is stored is no manifest.
    """
    key = shelf.manifest_key(name, version)
    try:
        data = _small(store, key, most=_MAX_MANIFEST_BYTES)
    except NotFoundError:
        raise NotFoundError(f"{shelf.folder[:-1]} {name}@{version} does not exist") from None
    try:
        manifest = shelf.manifest_type.model_validate_json(data)
    except ValidationError as exc:
        raise CorruptArtifactError(f"{key} is not a manifest: {exc.error_count()} errors") from exc
    if (manifest.name, manifest.version) != (name, version):
        raise CorruptArtifactError(f"{key} is the manifest of {manifest.reference}")
    return manifest


def find(store: ObjectStore, shelf: Shelf[M], reference: Reference | str) -> M:
    """The version that a reference names; the latest when it names none.

    Raises:
        NotFoundError: There is none.
        InvalidArgumentError: ``reference`` is a string that does not parse.
    """
    if isinstance(reference, str):
        reference = parse_reference(reference, field="reference")
    if reference.version is not None:
        return read_manifest(store, shelf, reference.name, reference.version)
    if reference.alias is not None:
        return read_manifest(store, shelf, reference.name, _alias_version(store, shelf, reference))
    for version in reversed(versions(store, shelf, reference.name)):
        try:
            return read_manifest(store, shelf, reference.name, version)
        except NotFoundError:
            continue
    raise NotFoundError(f"{shelf.folder[:-1]} {reference.name} does not exist")


def names(store: ObjectStore, shelf: Shelf[M]) -> list[str]:
    """Names on a shelf, sorted."""
    return sorted(store.list_folders(f"{shelf.folder}/"))


def iterate(store: ObjectStore, shelf: Shelf[M], *, name: str = "") -> Iterator[M]:
    """Every version, by name and then newest first."""
    for each in [name] if name else names(store, shelf):
        for version in reversed(versions(store, shelf, each)):
            try:
                yield read_manifest(store, shelf, each, version)
            except NotFoundError:
                continue
            except CorruptArtifactError as exc:
                # Asking for this version says so; the list of the others goes on.
                log.warning("manifest_damaged", why=str(exc))


def read_file(
    store: ObjectStore, shelf: Shelf[M], manifest: M, file: ArtifactFile
) -> Iterator[bytes]:
    """The bytes of one file in chunks, checked against the manifest as they pass.

    Raises:
        CorruptArtifactError: Size or digest differ; raised after the last chunk that the
            manifest promises.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in store.read(shelf.prefix(manifest.name, manifest.version) + file.path):
        digest.update(chunk)
        size += len(chunk)
        if size > file.size:
            raise CorruptArtifactError(
                f"{manifest.reference}/{file.path} has more than the {file.size} bytes of its "
                "manifest"
            )
        yield chunk
    if size != file.size or digest.hexdigest() != file.sha256:
        raise CorruptArtifactError(
            f"{manifest.reference}/{file.path} differs from its manifest "
            f"({size} of {file.size} bytes, sha256 {digest.hexdigest()[:12]}…)"
        )


def fetch(
    store: ObjectStore, shelf: Shelf[M], manifest: M, folder: Path, *, only: Collection[str] = ()
) -> Iterator[int]:
    """Writes a version's files into a folder; yields the bytes of each step.

    A generator, so that the caller can stop between chunks.

    Args:
        store: Where from.
        shelf: ``MODELS`` or ``DATASETS``.
        manifest: The version.
        folder: Made when missing.
        only: Only the files of these paths, as far as there are any; empty means all.

    Raises:
        CorruptArtifactError: A file differs from the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in manifest.files:
        if only and file.path not in only:
            continue
        with (folder / file.path).open("wb") as out:
            for chunk in read_file(store, shelf, manifest, file):
                out.write(chunk)
                yield len(chunk)


def _alias_key(name: str, alias: str) -> str:
    return f"{MODELS.folder}/{name}/aliases/{alias}"


def _alias_version(store: ObjectStore, shelf: Shelf[M], reference: Reference) -> int:
    if shelf.folder != MODELS.folder or reference.alias is None:
        raise NotFoundError(f"{shelf.folder} have no aliases: {reference}")
    try:
        return _alias_target(store, _alias_key(reference.name, reference.alias))
    except NotFoundError:
        raise NotFoundError(f"model {reference} does not exist") from None


def _alias_target(store: ObjectStore, key: str) -> int:
    text = _small(store, key, most=_CHUNK).decode("ascii", errors="replace").strip()
    if not _is_number(text):
        raise CorruptArtifactError(f"{key} holds no version number; set the alias again")
    return int(text)


def aliases(store: ObjectStore, name: str) -> dict[str, int]:
    """Aliases of a model with the versions they point at."""
    prefix = _alias_key(name, "")
    found = {}
    for key in store.list(prefix):
        try:
            found[key.removeprefix(prefix)] = _alias_target(store, key)
        except NotFoundError:
            continue
        except CorruptArtifactError as exc:
            # Asking for this alias says so; the list of the others goes on.
            log.warning("alias_damaged", why=str(exc))
    return found


def set_alias(store: ObjectStore, reference: Reference, alias: str) -> ModelManifest:
    """Points an alias at the version that a reference names.

    Raises:
        NotFoundError: There is no such version.
    """
    manifest = find(store, MODELS, reference)
    store.put(_alias_key(manifest.name, alias), str(manifest.version).encode())
    return manifest


def delete_alias(store: ObjectStore, name: str, alias: str) -> None:
    """Removes an alias.

    Raises:
        NotFoundError: There is none.
    """
    if _alias_key(name, alias) not in store.list(_alias_key(name, alias)):
        raise NotFoundError(f"model {name}@{alias} does not exist")
    store.delete(_alias_key(name, alias))


def delete(store: ObjectStore, shelf: Shelf[M], reference: Reference) -> None:
    """Removes one version, its manifest first, so that no reader sees half of it.

    Raises:
        NotFoundError: There is none.
        FailedPreconditionError: An alias points at it.
    """
    manifest = find(store, shelf, reference)
    if shelf.folder == MODELS.folder:
        pointing = [a for a, v in aliases(store, manifest.name).items() if v == manifest.version]
        if pointing:
            raise FailedPreconditionError(
                f"{manifest.reference} is {', '.join(pointing)}; point the alias elsewhere first"
            )
    store.delete(shelf.manifest_key(manifest.name, manifest.version))
    store.delete_prefix(shelf.prefix(manifest.name, manifest.version))
