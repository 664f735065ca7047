"""A process's audit log while it runs: a chain, and a thread that ships it."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from histill.adapters.audit_shipping import ship, ship_abandoned, ship_rest
from histill.adapters.audit_spool import Spool, locked_folder, spool_folder
from histill.core.audit import chain_name, followed
from histill.core.audit_check import last_ends
from histill.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from histill.core.audit_settings import AuditSettings
    from histill.core.clock import Clock
    from histill.core.ports import ObjectStore
    from histill.core.settings import S3Settings

log = structlog.get_logger()
# Between two looks for what other processes of this machine left.
_SWEEP_S = 60.0


@contextmanager
def audit_trail(
    settings: AuditSettings, s3: S3Settings, objects: ObjectStore, *, process: str, clock: Clock
) -> Iterator[Spool]:
    """The process's chain, open while the block runs; its end is shipped after it.

    Args:
        settings: Folder, key and bounds.
        s3: Where ``objects`` lie: spools of one store are kept apart from those of others.
        objects: The store.
        process: Name of the process.
        clock: Gives times.

    Raises:
        SettingsError: The folder cannot be used.
    """
    place = hashlib.sha256(f"{s3.endpoint}/{s3.bucket}".encode()).hexdigest()[:12]
    parent = spool_folder(settings.folder) / place
    parent.mkdir(mode=0o700, exist_ok=True)
    name = chain_name(process, at=clock())
    key = settings.key_bytes
    with locked_folder(parent, name) as folder:
        spool = Spool(folder, key=key, max_bytes=settings.max_bytes)
        shipper = _Shipper(spool, objects, key, process, clock)
        thread = threading.Thread(
            target=shipper.run, args=(settings.every_s,), name="audit", daemon=True
        )
        thread.start()
        try:
            yield spool
        finally:
            shipper.stopped.set()
            thread.join()
            spool.close()
            try:
                ship_rest(objects, folder, key=key, clock=clock)
            except UnavailableError as exc:
                # The next process on this machine finds the folder, and nobody's lock on it.
                log.warning("audit_left_on_disk", folder=str(folder), why=str(exc))


@dataclass(frozen=True)
class _Shipper:
    spool: Spool
    objects: ObjectStore
    key: bytes | None
    process: str
    clock: Clock
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, every_s: float) -> None:
        """Ships every few seconds until it is told to stop."""
        linked, swept = False, -math.inf
        while not self.stopped.wait(every_s):
            try:
                self._ship()
                if time.monotonic() - swept > _SWEEP_S:
                    parent = self.spool.folder.parent
                    ship_abandoned(self.objects, parent, key=self.key, clock=self.clock)
                    swept = time.monotonic()
                linked = linked or self._link()
            except UnavailableError as exc:
                log.warning("audit_waits", held_bytes=self.spool.held_bytes(), why=str(exc))
            except Exception:
                # Whatever it was: records go on being written, and the next round may do it.
                log.exception("audit_shipping_crashed")

    def _ship(self) -> None:
        files = self.spool.rotate()
        ship(self.objects, self.spool.folder.name, files, key=self.key, clock=self.clock)
        for file in files:
            self.spool.shipped(file)

    def _link(self) -> bool:
        """Names the chains before this one, whose removal shows from then on."""
        before = last_ends(
            self.objects, process=self.process, before=self.spool.folder.name, key=self.key
        )
        return all(self.spool.append(followed(head)) for head in before)
