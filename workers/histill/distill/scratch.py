"""The worker's folder for work folders, and the removal of what killed workers left.

Work folders hold teachers and patients' images, so they must not outlive their worker.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger()
_PREFIX = "histill-worker-"
_LOCK = "lock"


@contextmanager
def scratch_folder(parent: str) -> Iterator[Path]:
    """A folder of this worker alone, locked while the block runs and removed after it.

    Folders of workers that are gone are removed first: their locks went with them.

    Args:
        parent: Where to make it; empty takes the system's folder for temporary files.
    """
    base = Path(parent or tempfile.gettempdir())
    _sweep_all(base)
    # Locked before it gets the name that others sweep.
    made = Path(tempfile.mkdtemp(prefix="histill-new-", dir=base))
    with (made / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.rename(base / f"{_PREFIX}{made.name.rpartition('-')[2]}")
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def work_folders(base: Path) -> Iterator[Path]:
    """Folders of attempts of all workers here; what killed workers left is removed first."""
    _sweep_all(base)
    yield from base.glob(f"{_PREFIX}*/*/")


def _sweep_all(base: Path) -> None:
    for left in base.glob(f"{_PREFIX}*"):
        _sweep(left)


def _sweep(folder: Path) -> None:
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
    except OSError:
        return  # another worker holds it, or is just making or removing it
    log.info("scratch_swept", folder=folder.name)
