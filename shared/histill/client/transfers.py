"""Files as streams of chunks, and back, each checked against its digest."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from histill.api.registry.v1 import registry_service_pb2
from histill.core.errors import CorruptArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from histill.api.registry.v1 import model_pb2

CHUNK_BYTES = 1 << 20


def chunks(files: Sequence[Path]) -> Iterator[registry_service_pb2.FileChunk]:
    """The bytes of some files, in order, at most 1 MiB at a time."""
    for path in files:
        with path.open("rb") as file:
            while data := file.read(CHUNK_BYTES):
                yield registry_service_pb2.FileChunk(path=path.name, data=data)


def save(
    parts: Iterable[registry_service_pb2.FileChunk],
    announced: Sequence[model_pb2.ArtifactFile],
    folder: Path,
) -> list[Path]:
    """Writes received chunks into a folder; a broken download leaves no file.

    Raises:
        CorruptArtifactError: Size or digest of a file differ from those announced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digests = {file.path: hashlib.sha256() for file in announced}
    partial = {file.path: folder / f".{file.path}.part" for file in announced}
    try:
        for path in partial.values():
            path.write_bytes(b"")
        for part in parts:
            if part.path not in partial:
                raise CorruptArtifactError(f"{part.path} was not announced")
            digests[part.path].update(part.data)
            with partial[part.path].open("ab") as out:
                out.write(part.data)
        for file in announced:
            if digests[file.path].hexdigest() != file.sha256:
                raise CorruptArtifactError(f"{file.path} arrived damaged; download it again")
        return [path.rename(folder / name) for name, path in partial.items()]
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
