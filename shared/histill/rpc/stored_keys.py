"""The stored API keys as a service holds them: all in memory, read again when they change."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from histill.core import access
from histill.core.errors import HistillError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from histill.core.access import AccessKey
    from histill.core.ports import ObjectStore

_RELOAD_EVERY_S = 60.0
# All records are read again so often: somebody may take the mark of a revocation away.
_REREAD_EVERY_S = 900.0
log = structlog.get_logger()


class KeyLookup(Protocol):
    """Finds stored keys."""

    @property
    def loaded(self) -> bool:
        """Whether the keys have been read at all; before that, none is known."""
        ...

    def find(self, sha256: str) -> AccessKey | None:
        """The key whose secret has this digest; expired and revoked ones too."""
        ...


class NoStoredKeys:
    """Implements ``KeyLookup`` where keys stand in the settings only."""

    loaded = True

    def find(self, sha256: str) -> AccessKey | None:
        """None at all."""
        del sha256
        return None


class StoredKeys:
    """Implements ``KeyLookup`` over the object store.

    A thread of its own looks for changes: calls that wait for S3 may hold every other one,
    and a revoked key must end in time all the same. While the store is away the keys that
    were read last stay in force, and those that end by date do so.

    Args:
        objects: The whole store.
        every_s: Between two looks.
        seal: That records must carry; ``None``: whoever can write the store makes keys.
    """

    def __init__(self, objects: ObjectStore, *, every_s: float, seal: bytes | None = None) -> None:
        self._objects = objects
        self._every_s = every_s
        self._seal = seal
        # Whatever the store says later: no id comes back.
        self._revoked: set[str] = set()
        self._keys: Mapping[str, AccessKey] | None = None
        self._word = ""
        self._read_at = 0.0
        self._all_read_at = 0.0
        self._away = False
        self._skipped: frozenset[str] = frozenset()
        self._stop = threading.Event()

    @property
    def loaded(self) -> bool:
        """Whether the keys have been read at all."""
        return self._keys is not None

    def find(self, sha256: str) -> AccessKey | None:
        """The key whose secret has this digest."""
        return (self._keys or {}).get(sha256)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Keeps the keys fresh while the block runs."""
        follower = threading.Thread(target=self._follow, name="stored-keys", daemon=True)
        follower.start()
        try:
            yield
        finally:
            self._stop.set()

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
                self._away = False
            except HistillError as exc:
                if not self._away:
                    log.warning("stored_keys_not_refreshed", why=str(exc), kept=self.loaded)
                self._away = True
            except Exception:
                # It outlives whatever a look raises: revoked keys must not live on.
                log.exception("stored_keys_crashed")
            self._stop.wait(self._every_s)

    def refresh(self) -> None:
        """Reads the keys that have changed, and looks for some once a minute in any case.

        Raises:
            StorageUnavailableError: The store does not answer; the keys stay as they were.
        """
        word = access.changed(self._objects)
        now = time.monotonic()
        if self.loaded and word == self._word and now - self._read_at < _RELOAD_EVERY_S:
            return
        skipped: dict[str, str] = {}
        revoked = access.revoked_ids(self._objects)
        anew = now - self._all_read_at >= _REREAD_EVERY_S
        known = {} if anew else {key.id: key for key in (self._keys or {}).values()}
        ids = access.ids(self._objects)
        kept = [known[each] for each in ids if _is_current(known.get(each), revoked)]
        fresh = [each for each in ids if not _is_current(known.get(each), revoked)]
        read = access.read(self._objects, fresh, skipped=skipped.__setitem__, seal=self._seal)
        keys = self._in_force(kept + read, revoked)
        for key_id in sorted(skipped.keys() - self._skipped):
            log.error("stored_key_skipped", key=key_id, why=skipped[key_id])
        if keys and not (self._seal or self.loaded):
            log.warning(
                "stored_keys_not_sealed",
                keys=len(keys),
                help="whoever can write S3 can make keys; set HISTILL_AUTH__SEAL in all services "
                "and make the keys anew",
            )
        if word != self._word or not self.loaded:
            log.info("stored_keys_read", keys=len(keys))
        self._keys = {key.sha256: key for key in keys}
        self._all_read_at = now if anew else self._all_read_at
        # The word from before: what changed meanwhile has another one.
        self._word, self._read_at, self._skipped = word, now, frozenset(skipped)

    def _in_force(self, keys: list[AccessKey], revoked: frozenset[str]) -> list[AccessKey]:
        """Keys, of which none comes back that was ever seen to be revoked."""
        self._revoked |= revoked
        found = [access.ended(key, self._revoked) for key in keys]
        for before, key in zip(keys, found, strict=True):
            if key is not before:
                log.error(
                    "stored_key_unrevoked",
                    key=key.id,
                    help="its record was changed in S3; the key stays revoked",
                )
        self._revoked |= {key.id for key in found if key.revoke_time}
        return found


def _is_current(key: AccessKey | None, revoked: frozenset[str]) -> bool:
    """Whether a record can be as it was: only a revocation changes one."""
    return key is not None and (key.revoke_time is not None or key.id not in revoked)
