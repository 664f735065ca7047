"""Manifests of exact versions, remembered for some seconds.

They never change, and CreateJob asks for the same ones again and again. One that is deleted
meanwhile may still be accepted; the job then fails with NOT_FOUND, as it would if the
version went a moment later.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from histill.core import catalog
from histill.core.manifests import DatasetManifest, ModelManifest
from histill.core.names import parse_reference
from histill.core.projects import scoped

if TYPE_CHECKING:
    from histill.core.catalog import Shelf
    from histill.core.ports import ObjectStore

M = TypeVar("M", ModelManifest, DatasetManifest)
_SECONDS = 5.0
_MOST = 1000


@dataclass
class Known:
    """Finds manifests of any project; safe between threads."""

    objects: ObjectStore
    _kept: dict[tuple[str, str, str], tuple[float, ModelManifest | DatasetManifest]] = field(
        default_factory=dict
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, project: str, shelf: Shelf[M], reference: str) -> M:
        """The version that a reference names; only exact ones are remembered.

        Raises:
            NotFoundError: There is none.
        """
        if parse_reference(reference, field="reference").version is None:
            return catalog.find(scoped(self.objects, project), shelf, reference)
        key = (project, shelf.folder, reference)
        now = time.monotonic()
        with self._lock:
            at, manifest = self._kept.get(key, (-_SECONDS, None))
        if isinstance(manifest, shelf.manifest_type) and now - at < _SECONDS:
            return manifest
        found = catalog.find(scoped(self.objects, project), shelf, reference)
        with self._lock:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            self._kept[key] = (now, found)
        return found
