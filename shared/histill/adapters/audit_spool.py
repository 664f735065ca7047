"""The audit log's records on the local disk, until they have been shipped.

Each record is one write to a file, so that it outlives the process from then on, however that
ends. It does not outlive a power cut of the next seconds: nothing is forced to the disk.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from histill.core.audit import beginning, sealed, segment_name
from histill.core.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = structlog.get_logger()
_LOCK = "lock"
_NEW = ".new-"
DROPPED = "dropped"


class Spool:
    """One chain; implements ``AuditTrail``, and is safe to share between threads.

    Args:
        folder: Of this chain alone; it is named like the chain.
        key: For HMAC.
        max_bytes: That may wait here.
    """

    def __init__(self, folder: Path, *, key: bytes | None, max_bytes: int) -> None:
        self.folder = folder
        self._key = key
        self._most = max_bytes
        self._lock = threading.Lock()
        self._end = beginning(folder.name, key)
        self._held = 0
        self._dropped = 0
        self._file = -1
        self._size = 0
        self._open()

    def append(self, fields: Mapping[str, object]) -> int:
        """Writes a record; returns its number, or 0 when there was no room for it."""
        with self._lock:
            if self._gap_told() and self._write(fields):
                return self._end.seq
            self._dropped += 1
            return 0

    def full(self) -> bool:
        """Whether a record would find no room."""
        return self._held >= self._most or self._dropped > 0

    def held_bytes(self) -> int:
        """Bytes that wait here."""
        return self._held

    def rotate(self) -> list[Path]:
        """Ends the present file, unless it is empty; returns those that can be shipped."""
        with self._lock:
            self._gap_told()
            if self._size:
                os.close(self._file)
                self._open()
            return segments(self.folder)[:-1]

    def shipped(self, file: Path) -> None:
        """Forgets a file that is in the store."""
        size = file.stat().st_size
        file.unlink()
        with self._lock:
            self._held -= size
            self._gap_told()

    def close(self) -> None:
        """Ends the last file; nothing can be written after it."""
        with self._lock:
            self._gap_told()
            os.close(self._file)

    def _gap_told(self) -> bool:
        """Whether the chain says what was dropped, now that there may be room to."""
        if self._dropped and self._write({"what": DROPPED, "count": self._dropped}):
            self._dropped = 0
        return not self._dropped

    def _write(self, fields: Mapping[str, object]) -> bool:
        line, end = sealed(self._end, fields, self._key)
        data = line.encode()
        if self._held + len(data) > self._most:
            return False
        try:
            written = os.write(self._file, data)
        except OSError as exc:
            log.error("audit_not_written", why=exc.strerror)  # noqa: TRY400 - words do
            written = 0
        if written != len(data):  # the disk is full: half a line is none
            os.ftruncate(self._file, self._size)
            return False
        self._end = end
        self._size += written
        self._held += written
        return True

    def _open(self) -> None:
        path = self.folder / segment_name(self._end.seq + 1)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self._size = 0


def segments(folder: Path) -> list[Path]:
    """Files of a chain, in order."""
    return sorted(folder.glob("*.jsonl"))


def spool_folder(parent: str) -> Path:
    """The folder for spools, made when missing, for this user alone.

    Args:
        parent: As in the settings; empty takes one in the system's for temporary files.

    Raises:
        SettingsError: It cannot be made, or belongs to somebody else.
    """
    folder = Path(parent or f"{tempfile.gettempdir()}/histill-audit-{os.getuid()}")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        foreign = folder.stat().st_uid != os.getuid()
    except OSError as exc:
        raise SettingsError(f"HISTILL_AUDIT__FOLDER {folder}: {exc.strerror}") from exc
    if foreign or not os.access(folder, os.W_OK):
        raise SettingsError(
            f"HISTILL_AUDIT__FOLDER {folder} belongs to another user, or cannot be written; "
            "name another folder"
        )
    return folder


@contextmanager
def locked_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder, locked while the block runs, by which others know that it is in use.

    Raises:
        SettingsError: It cannot be made.
    """
    try:
        # Locked before it gets the name under which others look.
        made = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
        lock = (made / _LOCK).open("w")
    except OSError as exc:
        raise SettingsError(f"HISTILL_AUDIT__FOLDER {parent}: {exc.strerror}") from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield made.rename(parent / name)


@contextmanager
def abandoned(folder: Path) -> Iterator[bool]:
    """Whether the process that wrote here is gone; if so the folder is ours in the block."""
    try:
        lock = (folder / _LOCK).open()
    except OSError:
        yield False  # somebody else has just removed it
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
