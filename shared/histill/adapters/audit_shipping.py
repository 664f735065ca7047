"""Takes the audit log's records from the local disk to the store, each file once."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import structlog

from histill.adapters.audit_spool import abandoned, segments
from histill.core.audit import FOLDER, HEAD, Head, Link, head_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from histill.core.clock import Clock
    from histill.core.ports import ObjectStore

log = structlog.get_logger()


def ship(
    objects: ObjectStore, chain: str, files: Sequence[Path], *, key: bytes | None, clock: Clock
) -> None:
    """Stores files of a chain, then the head that tells how far they reach.

    Safe to repeat: a file that is there already is stored as the same bytes.

    Args:
        objects: The store.
        chain: Its name.
        files: In order; none of them is written to any more, none is empty.
        key: For HMAC.
        clock: Gives the head's time.

    Raises:
        StorageUnavailableError: The store does not answer; nothing is lost.
    """
    for file in files:
        objects.put_file(f"{FOLDER}{chain}/{file.name}", file)
    if files:
        head = head_bytes(Head(clock(), chain, _end(files[-1])), key)
        objects.put(f"{FOLDER}{chain}/{HEAD}", head)


def ship_rest(objects: ObjectStore, folder: Path, *, key: bytes | None, clock: Clock) -> None:
    """Ships what is left of a chain that has ended, and removes its folder.

    Raises:
        StorageUnavailableError: The store does not answer; all of it stays.
    """
    files = [file for file in segments(folder) if _whole_lines(file)]
    ship(objects, folder.name, files, key=key, clock=clock)
    shutil.rmtree(folder)


def ship_abandoned(
    objects: ObjectStore, parent: Path, *, key: bytes | None, clock: Clock
) -> list[str]:
    """Ships what processes of this machine left that are gone; returns their chains.

    Raises:
        StorageUnavailableError: The store does not answer; the rest waits for the next time.
    """
    found = []
    for folder in sorted(each for each in parent.iterdir() if not each.name.startswith(".")):
        with abandoned(folder) as ours:
            if ours:
                ship_rest(objects, folder, key=key, clock=clock)
                found.append(folder.name)
                log.info("audit_of_the_dead_shipped", chain=folder.name)
    return found


def _whole_lines(file: Path) -> int:
    """Cuts off half a line, which a power cut leaves; returns the bytes that stay."""
    data = file.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with file.open("r+b") as out:
            out.truncate(whole)
    return whole


def _end(file: Path) -> Link:
    last = file.read_bytes().splitlines()[-1]
    fields = json.loads(last)
    return Link(int(fields["seq"]), str(fields["hash"]))
