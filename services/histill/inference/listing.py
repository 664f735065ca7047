"""The models that can be asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core import catalog

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """Reads a project's shelf of models.

    Args:
        store_of: Where a project's models are.
        pool: Knows which are in memory.
    """

    def __init__(self, store_of: Callable[[str], ObjectStore], pool: ModelPool) -> None:
        self._store_of = store_of
        self._pool = pool

    async def served(self, project: str) -> list[ServedModel]:
        """Every servable version of a project, by name and newest first."""
        return await asyncio.to_thread(self._read, project)

    async def versions(self, project: str, name: str) -> list[int]:
        """Servable versions of one model, ascending."""
        store = self._store_of(project)
        found = await asyncio.to_thread(
            lambda: list(catalog.iterate(store, catalog.MODELS, name=name))
        )
        return sorted(each.version for each in found if each.servable)

    def _read(self, project: str) -> list[ServedModel]:
        store, loaded = self._store_of(project), self._pool.loaded(project)
        aliases: dict[str, dict[str, int]] = {}
        found = []
        for manifest in catalog.iterate(store, catalog.MODELS):
            if not manifest.servable:
                continue
            if manifest.name not in aliases:
                aliases[manifest.name] = catalog.aliases(store, manifest.name)
            pointing = aliases[manifest.name].items()
            names = tuple(sorted(a for a, version in pointing if version == manifest.version))
            found.append(ServedModel(manifest, names, manifest.reference in loaded))
        return found
