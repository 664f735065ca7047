"""The models that can be asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core import catalog

if TYPE_CHECKING:
    from histill.core.manifests import ModelManifest
    from histill.core.ports import ObjectStore
    from histill.inference.models import ModelPool


@dataclass(frozen=True)
class ServedModel:
    """A version that can be asked for, the aliases that point at it, and whether it is warm."""

    manifest: ModelManifest
    aliases: tuple[str, ...]
    loaded: bool


class Listing:
    """Reads the shelf of models.

    Args:
        store: Where models are.
        pool: Knows which are in memory.
    """

    def __init__(self, store: ObjectStore, pool: ModelPool) -> None:
        self._store = store
        self._pool = pool

    async def served(self) -> list[ServedModel]:
        """Every servable version, by name and newest first."""
        return await asyncio.to_thread(self._read)

    async def versions(self, name: str) -> list[int]:
        """Servable versions of one model, ascending."""
        found = await asyncio.to_thread(
            lambda: list(catalog.iterate(self._store, catalog.MODELS, name=name))
        )
        return sorted(each.version for each in found if each.servable)

    def _read(self) -> list[ServedModel]:
        loaded = self._pool.loaded()
        aliases: dict[str, dict[str, int]] = {}
        found = []
        for manifest in catalog.iterate(self._store, catalog.MODELS):
            if not manifest.servable:
                continue
            if manifest.name not in aliases:
                aliases[manifest.name] = catalog.aliases(self._store, manifest.name)
            pointing = aliases[manifest.name].items()
            names = tuple(sorted(a for a, version in pointing if version == manifest.version))
            found.append(ServedModel(manifest, names, manifest.reference in loaded))
        return found
