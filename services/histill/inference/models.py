"""The models in memory: loaded on demand, warmed, counted, and let go when unused."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import structlog

from histill.core import catalog
from histill.core.errors import (
    CorruptArtifactError,
    FailedPreconditionError,
    HistillError,
    ResourceExhaustedError,
)
from histill.core.manifests import ONNX
from histill.core.trust import check_signature
from histill.inference import measures, memory
from histill.inference.apart import in_own_thread
from histill.inference.owned import Owned
from histill.inference.runtime import CONFIDENCE, FILES, MASK, PROBABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.core.manifests import ModelManifest
    from histill.core.ports import ObjectStore
    from histill.core.signing import Verifier
    from histill.inference.runtime import Runtime

log = structlog.get_logger()
# A file that was refused is not fetched again before this.
_REFUSED_S = 30.0
_WARM_UP_SIDE = 64
_LAST_USE_S = 1.0


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A version in memory, warm.

    It answers for its project alone: another's is another object, also where every byte
    of both is the same.
    """

    project: str
    manifest: ModelManifest
    runtime: Runtime
    size_bytes: int

    @property
    def owned(self) -> Owned:
        """The version, and whose."""
        return Owned(self.project, self.manifest.reference)


class ModelPool:
    """Versions in memory, within a budget; the least recently used one goes first.

    The budget is one for all projects.

    Args:
        store_of: Where a project's models are.
        load: Makes a runtime of a manifest and what reads its files, checked; blocks.
        budget_bytes: Most bytes of model files in memory.
        verifier: Must approve of a version's signature; ``None`` approves of all.
        load_s: Longest time to make a runtime of a model's files and to warm it.
    """

    def __init__(
        self,
        store_of: Callable[[str], ObjectStore],
        load: Callable[[ModelManifest, Callable[[str], bytes]], Runtime],
        *,
        budget_bytes: int,
        verifier: Verifier | None = None,
        load_s: float = 300.0,
    ) -> None:
        self._store_of = store_of
        self._load = load
        self._budget = budget_bytes
        self._verifier = verifier
        self._models: OrderedDict[Owned, LoadedModel] = OrderedDict()
        self._load_s = load_s
        self._loading: dict[Owned, tuple[ModelManifest, asyncio.Task[LoadedModel]]] = {}
        self._refused: dict[Owned, tuple[ModelManifest, CorruptArtifactError, float]] = {}
        self._pinned: set[Owned] = set()

    def loaded(self, project: str) -> frozenset[str]:
        """References, ``name@version``, of a project's models in memory."""
        return frozenset(each.reference for each in self._models if each.project == project)

    def peek(self, version: Owned) -> LoadedModel | None:
        """The version, if it is in memory; it does not count as used."""
        return self._models.get(version)

    def let_go(self, project: str, name: str) -> bool:
        """Forgets all versions of a project's model, and says whether there was one."""
        found = [each for each in self._models if (each.project, each.name) == (project, name)]
        for version in found:
            del self._models[version]
            log.info("model_let_go", model=str(version))
        self._give_back()
        measures.MODELS_LOADED.set(len(self._models))
        return bool(found)

    def forget(self, version: Owned) -> None:
        """Lets one version go, if it is in memory."""
        if self._models.pop(version, None):
            log.info("model_let_go", model=str(version))
            self._give_back()
            measures.MODELS_LOADED.set(len(self._models))

    def pin(self, versions: set[Owned]) -> None:
        """Names the versions that are never let go."""
        self._pinned = versions

    async def get(self, project: str, manifest: ModelManifest) -> LoadedModel:
        """The version, loaded and warmed first if need be; once for all who wait.

        Args:
            project: Whose it is.
            manifest: As that project's part of the store has it.

        Raises:
            FailedPreconditionError: It does not segment, or has no ``model.onnx``.
            CorruptArtifactError: Its bytes or its signature are wrong; says how.
            ResourceExhaustedError: It does not fit the budget.
            StorageUnavailableError: S3 does not answer.
        """
        version = Owned(project, manifest.reference)
        # A name and a number may stand for other bytes than before, when a store is put back.
        found = self._models.get(version)
        if found and found.manifest == manifest:
            self._models.move_to_end(version)
            return found
        refused = self._refused.get(version)
        if refused and refused[0] == manifest and time.monotonic() < refused[2]:
            raise CorruptArtifactError(str(refused[1]))
        loading, task = self._loading.get(version, (None, None))
        if task is None or loading != manifest:
            task = asyncio.create_task(self._admit(project, manifest), name=f"load {version}")
            self._loading[version] = manifest, task
            task.add_done_callback(lambda done: self._loaded(version, manifest, done))
        # Shielded: whoever gives up must not take the model from the others.
        return await asyncio.shield(task)

    def _loaded(
        self, version: Owned, manifest: ModelManifest, task: asyncio.Task[LoadedModel]
    ) -> None:
        if self._loading.get(version) == (manifest, task):
            del self._loading[version]
        if task.cancelled():
            return
        exc = task.exception()
        if isinstance(exc, CorruptArtifactError):
            # What hung keeps its thread: it gets no second one.
            hung = isinstance(exc.__cause__, TimeoutError)
            until = math.inf if hung else time.monotonic() + _REFUSED_S
            self._refused[version] = manifest, exc, until
        if exc is not None:
            log.warning("model_refused", model=str(version), why=str(exc))

    async def _admit(self, project: str, manifest: ModelManifest) -> LoadedModel:
        if (size := _size(manifest)) > self._budget:
            raise ResourceExhaustedError(
                f"{manifest.reference} has {size} bytes, more than HISTILL_INFERENCE__CACHE_BYTES"
            )
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(project=project):
            read = await asyncio.to_thread(self._fetch, project, manifest)
            try:
                model = await in_own_thread(
                    partial(self._made, project, manifest, read), seconds=self._load_s
                )
            except TimeoutError as exc:
                raise CorruptArtifactError(
                    f"{manifest.reference} is not ready after {self._load_s:g} s "
                    "(HISTILL_INFERENCE__LOAD_S) and is refused until a restart"
                ) from exc
        self.forget(model.owned)  # the same number with other bytes
        self._make_room(model.size_bytes)
        self._models[model.owned] = model
        self._refused.pop(model.owned, None)
        measures.MODELS_LOADED.set(len(self._models))
        self._give_back()  # of runtimes that were tried
        log.info(
            "model_loaded",
            model=str(model.owned),
            device=model.runtime.device,
            runtime=model.runtime.name,
            precision=model.runtime.precision,
            size_bytes=model.size_bytes,
            seconds=round(time.monotonic() - started, 3),
        )
        return model

    def _fetch(self, project: str, manifest: ModelManifest) -> Callable[[str], bytes]:
        """What reads a model's files; the largest is here already, and waits for no store."""
        store, files = self._store_of(project), {each.path: each for each in manifest.files}
        check_signature(store, catalog.MODELS, manifest, self._verifier, project=project)

        def read(path: str) -> bytes:
            parts = catalog.read_file(store, catalog.MODELS, manifest, files[path])
            return b"".join(parts)

        student = read(ONNX)
        return lambda path: student if path == ONNX else read(path)

    def _made(
        self, project: str, manifest: ModelManifest, read: Callable[[str], bytes]
    ) -> LoadedModel:
        files = {each.path: each for each in manifest.files}
        runtime = self._load(manifest, read)
        warm_up(manifest, runtime)
        # Of what was tried only this stays.
        return LoadedModel(project, manifest, runtime, files[FILES[runtime.precision]].size)

    def _make_room(self, size: int) -> None:
        """Lets models go until the new one fits; whoever still uses one keeps it alive."""
        used = sum(model.size_bytes for model in self._models.values())
        for version in [each for each in self._models if each not in self._pinned]:
            if used + size <= self._budget:
                return
            used -= self._models.pop(version).size_bytes
            log.info("model_let_go", model=str(version))
            self._give_back()
        if used + size > self._budget:
            raise ResourceExhaustedError(
                "the models that must stay loaded leave no room; raise "
                "HISTILL_INFERENCE__CACHE_BYTES or name fewer in HISTILL_INFERENCE__PRELOAD"
            )

    def _give_back(self) -> None:
        """Once those who still use what was let go are likely to be done."""
        loop = asyncio.get_running_loop()
        loop.call_later(_LAST_USE_S, lambda: loop.run_in_executor(None, memory.give_back))


def _size(manifest: ModelManifest) -> int:
    if manifest.task != "segmentation":
        raise FailedPreconditionError(
            f"{manifest.reference} is for {manifest.task} and cannot be served here, where images "
            f"are segmented; download it and run its {ONNX} yourself"
        )
    for file in manifest.files:
        if file.path == ONNX:
            return file.size
    raise FailedPreconditionError(
        f"{manifest.reference} has no {ONNX} and cannot be served; distil a student from it"
    )


def warm_up(manifest: ModelManifest, runtime: Runtime) -> None:
    """Runs a model once on nothing, and looks at what comes out.

    Raises:
        CorruptArtifactError: It fails, or its outputs do not fit the manifest.
    """
    side = -(-_WARM_UP_SIDE // runtime.stride) * runtime.stride
    images = np.zeros((1, side, side, manifest.channels), np.uint8)
    expected = (1, len(manifest.classes), side, side)
    try:
        mask, confidence, probabilities = runtime.run((MASK, CONFIDENCE, PROBABILITIES), images)
    except HistillError as exc:
        raise CorruptArtifactError(f"{manifest.reference} fails: {exc}") from exc
    got = probabilities.shape
    if got != expected or mask.shape != (1, side, side) or confidence.shape != mask.shape:
        raise CorruptArtifactError(
            f"{manifest.reference} answers {got}, where its manifest promises {expected}"
        )
