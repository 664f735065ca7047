"""Which version answers for a reference, followed while aliases move."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from histill.core import catalog
from histill.core.errors import (
    FailedPreconditionError,
    HistillError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from histill.core.names import parse_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from histill.core.manifests import ModelManifest
    from histill.core.ports import ObjectStore
    from histill.inference.models import LoadedModel, ModelPool

log = structlog.get_logger()
# A reference that nobody asked for in this time is no longer followed.
_FOLLOWED_S = 600.0


@dataclass
class _Target:
    manifest: ModelManifest
    asked: float


class Directory:
    """References to loaded models.

    A reference keeps its version until a newer one behind it is loaded and warm.

    Args:
        store: Where models are.
        pool: Loads them.
        preload: References that are loaded by ``follow`` and stay.
        poll_s: Seconds between looks at the aliases.
    """

    def __init__(
        self, store: ObjectStore, pool: ModelPool, *, preload: Sequence[str], poll_s: float
    ) -> None:
        self._store = store
        self._pool = pool
        self._preload = tuple(preload)
        self._poll_s = poll_s
        self._targets: dict[str, _Target] = {}
        self._unloads: Counter[str] = Counter()
        self._asks: Counter[str] = Counter()
        for reference in preload:
            parse_reference(reference, field="HISTILL_INFERENCE__PRELOAD")

    async def get(self, reference: str, *, field: str = "model") -> LoadedModel:
        """The model that answers for a reference now.

        Args:
            reference: Of the model.
            field: Path of the field it came from, for the error.

        Raises:
            InvalidArgumentError: It is no reference; names the field.
            NotFoundError: There is no such model.
            HistillError: As ``ModelPool.get``.
        """
        parse_reference(reference, field=field)
        target = self._targets.get(reference)
        if target is None:
            return await self._take(reference)
        target.asked = time.monotonic()
        return await self._pool.get(target.manifest)

    async def find(self, reference: str, *, field: str) -> ModelManifest:
        """What a reference points at in the registry, without loading it.

        Raises:
            InvalidArgumentError: It is no reference; names the field.
            NotFoundError: There is no such model.
        """
        parse_reference(reference, field=field)
        return await asyncio.to_thread(catalog.find, self._store, catalog.MODELS, reference)

    async def load(self, reference: str) -> LoadedModel:
        """What a reference points at now, loaded if need be.

        Raises:
            HistillError: As ``get``.
        """
        parse_reference(reference, field="model_name")
        return await self._take(reference)

    def unload(self, name: str) -> None:
        """Lets a model's versions go; a request for one loads it again.

        Raises:
            InvalidArgumentError: It is no name of a model.
            NotFoundError: None of it is loaded.
            FailedPreconditionError: It is one of those that stay.
        """
        if parse_reference(name, field="model_name").name != name:
            raise InvalidArgumentError.of(
                "model_name", f"{name!r}; write the name alone: all its versions are let go"
            )
        if any(parse_reference(each, field="").name == name for each in self._preload):
            raise FailedPreconditionError(
                f"{name} is in HISTILL_INFERENCE__PRELOAD and stays loaded; take it out there"
            )
        self._unloads[name] += 1
        for reference in [r for r, t in self._targets.items() if t.manifest.name == name]:
            del self._targets[reference]
        if not self._pool.let_go(name):
            raise NotFoundError(f"no version of {name} is loaded")

    async def follow(self) -> None:
        """Loads the preload list, then follows every reference until cancelled."""
        while True:
            for reference in {*self._preload, *self._targets}:
                await self._look(reference)
            await asyncio.sleep(self._poll_s)

    def missing(self) -> list[str]:
        """References of the preload list that are not loaded."""
        return [
            reference
            for reference in self._preload
            if (target := self._targets.get(reference)) is None
            or target.manifest.reference not in self._pool.loaded()
        ]

    async def _look(self, reference: str) -> None:
        target = self._targets.get(reference)
        keep = reference in self._preload
        if target is None and not keep:
            return  # unloaded since this round began
        if target and not keep and time.monotonic() - target.asked > _FOLLOWED_S:
            del self._targets[reference]
            return
        try:
            await self._take(reference, following=True)
        except NotFoundError as exc:
            if self._targets.pop(reference, None) or keep:
                log.warning("reference_gone", model=reference, why=str(exc))
        except UnavailableError as exc:
            log.warning("aliases_unknown", model=reference, why=str(exc))
        except HistillError as exc:
            # The version before, if there was one, goes on serving.
            log.error("version_not_taken", model=reference, why=str(exc))  # noqa: TRY400 - words do
        except Exception:
            # A fault of ours with one reference must not end the following of all.
            log.exception("look_crashed", model=reference)

    async def _take(self, reference: str, *, following: bool = False) -> LoadedModel:
        """Looks a reference up, loads what it names, and only then points it there."""
        name = parse_reference(reference, field="").name
        unloads, asks = self._unloads[name], self._asks[name]
        manifest = await asyncio.to_thread(catalog.find, self._store, catalog.MODELS, reference)
        self._asks[name] += not following
        model = await self._pool.get(manifest)
        if following and self._unloads[name] != unloads and self._asks[name] == asks:
            self._pool.let_go(name)  # somebody let it go meanwhile, and nobody asked since
            return model
        before = self._targets.get(reference)
        if before is None or before.manifest.reference != manifest.reference:
            log.info(
                "reference_points",
                model=reference,
                at=manifest.reference,
                before=before.manifest.reference if before else None,
            )
        asked = before.asked if before else time.monotonic()
        self._targets[reference] = _Target(manifest, asked)
        self._pool.pin(
            {
                target.manifest.reference
                for name, target in self._targets.items()
                if name in self._preload
            }
        )
        return model
