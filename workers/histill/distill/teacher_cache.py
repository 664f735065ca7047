"""What teachers said before, compressed on the local disk, for the next run to read.

An entry is keyed by the teacher's and the image's content and by the view, so that it
is right whatever job asks. Entries are written whole or not at all; one that cannot be
read is a miss. The least recently used go first when the folder is full. Each version of a
dataset has a folder of its own, which is removed with it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

log = structlog.get_logger()

_FORMAT = b"histill teacher logits 1"
_LEVEL = 1  # twice the level saves a tenth of the bytes and costs four times the time


def digest(*parts: bytes) -> str:
    """One key of several parts, hexadecimal."""
    key = hashlib.sha256(_FORMAT)
    for part in parts:
        key.update(len(part).to_bytes(8, "big") + part)
    return key.hexdigest()


@dataclass(frozen=True)
class TeacherCache:
    """Logits by key.

    Attributes:
        folder: Made when missing, readable by its owner only.
        limit: Bytes that ``trim`` leaves at most.
    """

    folder: Path
    limit: int

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def get(self, key: str, shape: tuple[int, int, int]) -> npt.NDArray[np.float16] | None:
        """float16 logits of a shape, or ``None`` when they are not there."""
        path = self._path(key)
        try:
            planes = zlib.decompress(path.read_bytes())
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, zlib.error) as exc:
            log.warning("teacher_cache_entry_unreadable", entry=path.name, why=str(exc))
            return None
        count = int(np.prod(shape))
        if len(planes) != 2 * count:
            log.warning("teacher_cache_entry_unreadable", entry=path.name, why="wrong size")
            return None
        low_high = np.frombuffer(planes, dtype=np.uint8).reshape(2, count)
        return np.ascontiguousarray(low_high.T).view("<f2").reshape(shape)

    def put(self, key: str, logits: npt.NDArray[np.float16]) -> None:
        """Stores logits; a disk that does not take them costs the entry, not the run."""
        # Low bytes first, then high ones: exponents of neighbours are alike and shrink.
        planes = np.ascontiguousarray(logits).astype("<f2").reshape(-1, 1).view(np.uint8).T
        path = self._path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                try:
                    file.write(zlib.compress(planes.tobytes(), _LEVEL))
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as exc:
            log.warning("teacher_cache_not_written", entry=path.name, why=str(exc))

    def trim(self) -> None:
        """Removes the least recently used entries until the rest fits the limit."""
        _trim(self.folder.glob("??/*"), self.limit)


def cache_folder(root: str, *, project: str, dataset: str) -> str:
    """Folder for what was said about a dataset's images, so that it can go with the dataset.

    Args:
        root: Of all datasets; empty for no cache.
        project: Whose dataset.
        dataset: ``name@version``.

    Returns:
        ``{root}/{project}/{dataset}``, or empty.
    """
    return str(Path(root) / project / dataset) if root else ""


def trim(root: Path, limit: int) -> None:
    """As ``TeacherCache.trim``, over the folders of all datasets together."""
    _trim(root.glob("*/*@*/??/*"), limit)


def _trim(paths: Iterable[Path], limit: int) -> None:
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except FileNotFoundError:  # another run trims too
            continue
        found.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            break
        path.unlink(missing_ok=True)
        total -= size
