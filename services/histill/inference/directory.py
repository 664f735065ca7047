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
from histill.inference.owned import Owned, parse_owned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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

    A reference keeps its version until a newer one behind it is loaded and warm. It is
    one of a project, and finds nothing of another's.

    Args:
        store_of: Where a project's models are.
        pool: Loads them.
        preload: References that are loaded by ``follow`` and stay; of other projects than
            ``default`` as ``project/name@alias``.
        poll_s: Seconds between looks at the aliases.
    """

    def __init__(
        self,
        store_of: Callable[[str], ObjectStore],
        pool: ModelPool,
        *,
        preload: Sequence[str],
        poll_s: float,
    ) -> None:
        self._store_of = store_of
        self._pool = pool
        self._preload = tuple(
            parse_owned(each, field="HISTILL_INFERENCE__PRELOAD") for each in preload
        )
        self._poll_s = poll_s
        self._targets: dict[Owned, _Target] = {}
        # By project and name.
        self._unloads: Counter[Owned] = Counter()
        self._asks: Counter[Owned] = Counter()

    async def get(self, asked: Owned, *, field: str = "model") -> LoadedModel:
        """The model that answers for a reference now.

        Args:
            asked: The reference, and whose.
            field: Path of the field it came from, for the error.

        Raises:
            InvalidArgumentError: It is no reference; names the field.
            NotFoundError: There is no such model.
            HistillError: As ``ModelPool.get``.
        """
        parse_reference(asked.reference, field=field)
        target = self._targets.get(asked)
        if target is None:
            return await self._take(asked)
        target.asked = time.monotonic()
        return await self._pool.get(asked.project, target.manifest)

    async def find(self, asked: Owned, *, field: str) -> ModelManifest:
        """What a reference points at in the registry, without loading it.

        Raises:
            InvalidArgumentError: It is no reference; names the field.
            NotFoundError: There is no such model.
        """
        parse_reference(asked.reference, field=field)
        return await self._read(asked)

    async def _read(self, asked: Owned) -> ModelManifest:
        store = self._store_of(asked.project)
        return await asyncio.to_thread(catalog.find, store, catalog.MODELS, asked.reference)

    async def load(self, asked: Owned) -> LoadedModel:
        """What a reference points at now, loaded if need be.

        Raises:
            HistillError: As ``get``.
        """
        parse_reference(asked.reference, field="model_name")
        return await self._take(asked)

    def unload(self, model: Owned) -> None:
        """Lets a model's versions go; a request for one loads it again.

        Raises:
            InvalidArgumentError: It is no name of a model.
            NotFoundError: None of it is loaded.
            FailedPreconditionError: It is one of those that stay.
        """
        project, name = model.project, model.reference
        if parse_reference(name, field="model_name").name != name:
            raise InvalidArgumentError.of(
                "model_name", f"{name!r}; write the name alone: all its versions are let go"
            )
        if any((each.project, each.name) == (project, name) for each in self._preload):
            raise FailedPreconditionError(
                f"{name} is in HISTILL_INFERENCE__PRELOAD and stays loaded; take it out there"
            )
        for each in [t for t in self._targets if (t.project, t.name) == (project, name)]:
            del self._targets[each]
        if not self._pool.let_go(project, name):
            raise NotFoundError(f"no version of {name} is loaded")
        # Not before: names of nothing would be kept for ever.
        self._unloads[model] += 1

    async def follow(self) -> None:
        """Loads the preload list, then follows every reference until cancelled."""
        while True:
            for asked in {*self._preload, *self._targets}:
                await self._look(asked)
            await asyncio.sleep(self._poll_s)

    def missing(self) -> list[str]:
        """References of the preload list that are not loaded."""
        return [
            str(asked)
            for asked in self._preload
            if (target := self._targets.get(asked)) is None
            or self._pool.peek(Owned(asked.project, target.manifest.reference)) is None
        ]

    async def _look(self, asked: Owned) -> None:
        target = self._targets.get(asked)
        keep = asked in self._preload
        if target is None and not keep:
            return  # unloaded since this round began
        if target and not keep and time.monotonic() - target.asked > _FOLLOWED_S:
            del self._targets[asked]
            return
        try:
            await self._take(asked, following=True)
        except NotFoundError as exc:
            gone = self._targets.pop(asked, None)
            if gone:
                self._forget(asked.project, gone.manifest.reference)
            if gone or keep:
                log.warning("reference_gone", model=str(asked), why=str(exc))
        except UnavailableError as exc:
            log.warning("aliases_unknown", model=str(asked), why=str(exc))
        except HistillError as exc:
            # The version before, if there was one, goes on serving.
            log.error("version_not_taken", model=str(asked), why=str(exc))  # noqa: TRY400 - words do
        except Exception:
            # A fault of ours with one reference must not end the following of all.
            log.exception("look_crashed", model=str(asked))

    def _forget(self, project: str, version: str) -> None:
        """Unloads a version that nothing points at any more."""
        if not any(
            (each.project, target.manifest.reference) == (project, version)
            for each, target in self._targets.items()
        ):
            self._pool.forget(Owned(project, version))

    async def _take(self, asked: Owned, *, following: bool = False) -> LoadedModel:
        """Looks a reference up, loads what it names, and only then points it there."""
        named = Owned(asked.project, asked.name)
        unloads, asks = self._unloads[named], self._asks[named]
        manifest = await self._read(asked)
        self._asks[named] += not following
        model = await self._pool.get(asked.project, manifest)
        if following and self._unloads[named] != unloads and self._asks[named] == asks:
            # Somebody let it go meanwhile, and nobody asked since.
            self._pool.let_go(asked.project, asked.name)
            return model
        before = self._targets.get(asked)
        if before is None or before.manifest.reference != manifest.reference:
            log.info(
                "reference_points",
                model=str(asked),
                at=manifest.reference,
                before=before.manifest.reference if before else None,
            )
        self._targets[asked] = _Target(manifest, before.asked if before else time.monotonic())
        self._pool.pin(
            {
                Owned(each.project, target.manifest.reference)
                for each, target in self._targets.items()
                if each in self._preload
            }
        )
        return model
