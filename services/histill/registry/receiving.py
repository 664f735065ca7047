"""Receives announced files as chunks into a scratch folder, and trusts none of them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import shutil
from collections import Counter
from typing import TYPE_CHECKING

from pydantic import ValidationError

from histill.core.errors import (
    CorruptArtifactError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from histill.core.manifests import ArtifactFile
from histill.core.messages import violations
from histill.core.pace import MIN_BYTES_PER_S, Pace
from histill.core.signing import SIGNATURE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from histill.api.registry.v1 import model_pb2, registry_service_pb2
    from histill.registry.settings import UploadPart

MAX_CHUNK_BYTES = 1 << 20
_NO_ROOM = "the registry has no room to receive this; see HISTILL_UPLOAD__SCRATCH"
_ROOM_RETRY_S = 60.0


class Scratch:
    """Room for uploads that run at the same time: what one announced, no other may take."""

    def __init__(self) -> None:
        self._due = 0  # announced by uploads that run, and not yet written

    @contextlib.contextmanager
    def room(self, size: int, folder: Path) -> Iterator[Room]:
        """Room for so many bytes until the block ends.

        Raises:
            ResourceExhaustedError: There is none beside what others announced.
        """
        if self._due + size > shutil.disk_usage(folder).free:
            raise ResourceExhaustedError(_NO_ROOM, retry_after_s=_ROOM_RETRY_S)
        room = Room(self, size)
        self._due += size
        try:
            yield room
        finally:
            self._due -= room.due

    def written(self, size: int) -> None:
        """Counts bytes that the disk counts from now on."""
        self._due -= size


class Room:
    """One upload's part of the scratch folder.

    Attributes:
        due: Bytes that are still to come.
    """

    def __init__(self, scratch: Scratch, due: int) -> None:
        self._scratch = scratch
        self.due = due

    def written(self, size: int) -> None:
        """Gives back what is on the disk, but no more than was announced."""
        size = min(size, self.due)
        self.due -= size
        self._scratch.written(size)


def announced_files(
    files: Sequence[model_pb2.ArtifactFile], *, limits: UploadPart
) -> list[ArtifactFile]:
    """The files of a header, checked before a byte of them is received.

    Raises:
        InvalidArgumentError: A path, size or digest is wrong, or a path comes twice.
        ResourceExhaustedError: They are too many, or too large together.
    """
    if not files:
        raise InvalidArgumentError.of("header.files", "must name at least one file")
    if len(files) > limits.max_files:
        raise ResourceExhaustedError(f"an upload may hold {limits.max_files} files at most")
    found: list[ArtifactFile] = []
    for index, file in enumerate(files):
        try:
            found.append(ArtifactFile(path=file.path, size=file.size_bytes, sha256=file.sha256))
        except ValidationError as exc:
            raise InvalidArgumentError(*violations(exc, f"header.files[{index}]")) from exc
    for path, times in Counter(file.path for file in found).items():
        if times > 1 or path in {"manifest.json", SIGNATURE}:
            raise InvalidArgumentError.of("header.files", f"{path} is named twice, or reserved")
    if (total := sum(file.size for file in found)) > limits.max_bytes:
        raise ResourceExhaustedError(
            f"an upload may hold {limits.max_bytes} bytes at most; this one announces {total} "
            "(HISTILL_UPLOAD__MAX_BYTES)"
        )
    return found


async def receive(
    chunks: AsyncIterator[registry_service_pb2.FileChunk],
    files: Sequence[ArtifactFile],
    folder: Path,
    *,
    scratch: Scratch | None = None,
    idle_s: float = 60.0,
    bytes_per_s: int = MIN_BYTES_PER_S,
) -> list[Path]:
    """Writes the chunks of the announced files, one file after the other.

    Args:
        chunks: As they come.
        files: That were announced.
        folder: Where to.
        scratch: Shared by all uploads that run.
        idle_s: Longest wait for a chunk.
        bytes_per_s: Least rate on the whole, after ``idle_s``.

    Raises:
        InvalidArgumentError: A chunk belongs to another file than is due, or is too large.
        CorruptArtifactError: A file's size or digest differ from those announced.
        ResourceExhaustedError: The scratch folder has no room.
        DeadlineExceededError: No chunk comes in time, or they come too slowly.
    """
    pace = Pace(idle_s, bytes_per_s)
    total = sum(file.size for file in files)
    try:
        with (scratch or Scratch()).room(total, folder) as room:
            return await _received(chunks, files, folder, pace, room)
    except OSError as exc:
        if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise ResourceExhaustedError(_NO_ROOM, retry_after_s=_ROOM_RETRY_S) from exc


async def _received(
    chunks: AsyncIterator[registry_service_pb2.FileChunk],
    files: Sequence[ArtifactFile],
    folder: Path,
    pace: Pace,
    room: Room,
) -> list[Path]:
    total = 0
    for file in files:
        digest, size, path = hashlib.sha256(), 0, folder / file.path
        with path.open("wb") as out:
            while size < file.size:
                chunk = await pace.next(chunks, total)
                if chunk is None:
                    raise CorruptArtifactError(
                        f"{file.path} ended after {size} of {file.size} bytes; send it again"
                    )
                _check_chunk(chunk, file)
                digest.update(chunk.data)
                size += len(chunk.data)
                total += len(chunk.data)
                await asyncio.to_thread(out.write, chunk.data)
                room.written(len(chunk.data))
        if size != file.size or digest.hexdigest() != file.sha256:
            raise CorruptArtifactError(f"{file.path} differs from its announced size or sha256")
    if await pace.next(chunks, total) is not None:
        raise InvalidArgumentError.of("chunk", "follows after the last announced file")
    return [folder / file.path for file in files]


def _check_chunk(chunk: registry_service_pb2.FileChunk, file: ArtifactFile) -> None:
    if chunk.path != file.path:
        raise InvalidArgumentError.of("chunk.path", f"is {chunk.path!r}; {file.path} is due")
    if not 0 < len(chunk.data) <= MAX_CHUNK_BYTES:
        raise InvalidArgumentError.of("chunk.data", f"must hold 1 to {MAX_CHUNK_BYTES} bytes")
