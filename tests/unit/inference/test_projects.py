"""What is kept of a model is kept for its project alone."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from batchers import Mirror, Setting, image, model_of, values
from fakes import MemoryObjects
from histill.core import catalog
from histill.core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from histill.core.manifests import ONNX
from histill.core.names import Reference
from histill.core.projects import DEFAULT, scoped
from histill.inference.directory import Directory
from histill.inference.listing import Listing
from histill.inference.models import ModelPool
from histill.inference.onnx_runtime import OnnxRuntime
from histill.inference.owned import Owned, parse_owned
from histill.inference.runtime import MASK
from histill.inference.settings import Batching
from histill.inference.statistics import Statistics
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from histill.core.manifests import ModelManifest
    from histill.inference.models import LoadedModel

ACME, ZENITH = "acme", "zenith"
DARK_ONE, DARK_ZERO = student(dark_is=1), student(dark_is=0)


def runtime(manifest: ModelManifest, read: Callable[[str], bytes]) -> OnnxRuntime:
    return OnnxRuntime.load(
        read(ONNX), reference=manifest.reference, channels=3, threads=1, device="cpu"
    )


class House:
    """A store, and what serves from it, with room for some models."""

    def __init__(
        self,
        folder: Path,
        *preload: str,
        models: float = 10,
        objects: MemoryObjects | None = None,
    ) -> None:
        self.objects = objects or MemoryObjects()
        self._folder = folder
        store_of = partial(scoped, self.objects)
        self.pool = ModelPool(store_of, runtime, budget_bytes=int(models * len(DARK_ONE)))
        self.directory = Directory(store_of, self.pool, preload=preload, poll_s=0.01)
        self.listing = Listing(store_of, self.pool)

    def publish(self, project: str, data: bytes) -> ModelManifest:
        """A version of the model ``nuclei``."""
        return publish(scoped(self.objects, project), data, self._folder)

    async def get(self, project: str, reference: str = "nuclei") -> LoadedModel:
        return await self.directory.get(Owned(project, reference))


def said(model: LoadedModel) -> int:
    """The class of a dark pixel."""
    return int(model.runtime.run([MASK], np.zeros((1, 8, 8, 3), np.uint8))[0][0, 4, 4])


async def test_a_model_in_memory_answers_for_its_project_alone(tmp_path: Path) -> None:
    """One name and number in two projects are two models, each with its own weights."""
    house = House(tmp_path)
    house.publish(ACME, DARK_ONE)
    house.publish(ZENITH, DARK_ZERO)
    first, second = await house.get(ACME), await house.get(ZENITH)
    assert first.manifest.reference == second.manifest.reference == "nuclei@1"
    assert (said(first), said(second)) == (1, 0)
    assert await house.get(ACME) is first


async def test_the_same_bytes_are_held_twice(tmp_path: Path) -> None:
    """Not even where digests agree does a project's model answer for another."""
    house = House(tmp_path)
    for project in (ACME, ZENITH, DEFAULT):
        house.publish(project, DARK_ONE)
    found = [await house.get(project) for project in (ACME, ZENITH, DEFAULT)]
    assert len({id(each.runtime) for each in found}) == 3


@pytest.mark.parametrize("other", [ZENITH, DEFAULT])
async def test_anothers_model_is_not_found(tmp_path: Path, other: str) -> None:
    """Loaded or not, by any reference, in the words for a name that nobody has."""
    house = House(tmp_path)
    house.publish(ACME, DARK_ONE)
    catalog.set_alias(scoped(house.objects, ACME), Reference("nuclei", version=1), "best")
    for reference in ("nuclei", "nuclei@1", "nuclei@best"):
        await house.get(ACME, reference)
        with pytest.raises(NotFoundError) as hidden:
            await house.get(other, reference)
        with pytest.raises(NotFoundError) as nowhere:
            await house.get(other, reference.replace("nuclei", "nobody"))
        assert str(hidden.value).replace("nuclei", "nobody") == str(nowhere.value)
    assert await house.listing.served(other) == []
    assert await house.listing.versions(other, "nuclei") == []
    assert house.pool.loaded(other) == frozenset()
    assert house.pool.peek(Owned(other, "nuclei@1")) is None


@dataclass
class Watched(MemoryObjects):
    """Notes what it is asked for."""

    asked: list[str] = field(default_factory=list)

    def read(self, key: str, *, chunk_size: int = 1 << 20) -> Iterator[bytes]:
        self.asked.append(f"read {key}")
        return super().read(key, chunk_size=chunk_size)

    def list(self, prefix: str) -> Iterator[str]:
        self.asked.append(f"list {prefix}")
        return super().list(prefix)


@pytest.mark.parametrize("reference", ["nuclei", "nuclei@1", "nuclei@best"])
async def test_not_found_takes_as_long(tmp_path: Path, reference: str) -> None:
    """For a model that another project has in memory the store is asked what it is for none."""
    house = House(tmp_path, objects=Watched())
    house.publish(ACME, DARK_ONE)
    catalog.set_alias(scoped(house.objects, ACME), Reference("nuclei", version=1), "best")
    await house.get(ACME, reference)
    asked = []
    for each in (reference, reference.replace("nuclei", "nobody")):
        assert isinstance(house.objects, Watched)
        house.objects.asked.clear()
        with pytest.raises(NotFoundError):
            await house.get(ZENITH, each)
        asked.append([key.replace("nobody", "nuclei") for key in house.objects.asked])
    assert asked[0] == asked[1] != []


async def test_a_path_is_no_reference(tmp_path: Path) -> None:
    """The form that settings take is refused from callers, who may not choose a project."""
    house = House(tmp_path)
    house.publish(ACME, DARK_ONE)
    for reference in ("acme/nuclei", "../acme/models/nuclei", "projects/acme/nuclei@1"):
        with pytest.raises(InvalidArgumentError, match="is not a reference"):
            await house.get(DEFAULT, reference)


async def test_unloading_lets_go_of_ones_own(tmp_path: Path) -> None:
    """Another's model of that name stays, is not missed, and its preloading is not told."""
    house = House(tmp_path, "acme/nuclei")
    for project in (ACME, ZENITH):
        house.publish(project, DARK_ONE)
        await house.get(project)
    house.directory.unload(Owned(ZENITH, "nuclei"))
    assert house.pool.loaded(ACME) == {"nuclei@1"}
    assert house.pool.loaded(ZENITH) == frozenset()
    with pytest.raises(NotFoundError, match="no version of nuclei is loaded"):
        house.directory.unload(Owned(ZENITH, "nuclei"))
    with pytest.raises(FailedPreconditionError, match="PRELOAD"):
        house.directory.unload(Owned(ACME, "nuclei"))


async def test_an_alias_moves_for_its_project_alone(tmp_path: Path) -> None:
    """Who follows a reference follows it in one project."""
    house = House(tmp_path, "acme/nuclei@best", "zenith/nuclei@best")
    for project in (ACME, ZENITH):
        for _ in range(2):
            house.publish(project, DARK_ONE)
        catalog.set_alias(scoped(house.objects, project), Reference("nuclei", version=1), "best")
    following = asyncio.create_task(house.directory.follow())
    try:
        async with asyncio.timeout(5):
            while house.directory.missing():  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.01)
        catalog.set_alias(scoped(house.objects, ACME), Reference("nuclei", version=2), "best")
        async with asyncio.timeout(5):
            while (await house.get(ACME, "nuclei@best")).manifest.version == 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await house.get(ZENITH, "nuclei@best")).manifest.version == 1
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def test_the_budget_is_one_for_all(tmp_path: Path) -> None:
    """The least recently used goes first, whosever it is; what is preloaded stays."""
    house = House(tmp_path, "acme/nuclei", models=2.5)
    for project in (ACME, ZENITH, DEFAULT):
        house.publish(project, DARK_ONE)
    await house.directory.load(Owned(ACME, "nuclei"))
    for project in (ZENITH, DEFAULT):
        await house.get(project)
    loaded = [bool(house.pool.loaded(each)) for each in (ACME, ZENITH, DEFAULT)]
    assert loaded == [True, False, True]


async def test_what_stays_is_one_projects(tmp_path: Path) -> None:
    """A version is pinned for its project; that of another with its name can be let go."""
    house = House(tmp_path, models=1.5)
    made = {project: house.publish(project, DARK_ONE) for project in (ACME, ZENITH)}
    house.pool.pin({Owned(ACME, "nuclei@1")})
    await house.pool.get(ZENITH, made[ZENITH])
    await house.pool.get(ACME, made[ACME])
    assert house.pool.loaded(ZENITH) == frozenset()
    with pytest.raises(ResourceExhaustedError, match="leave no room"):
        await house.pool.get(ZENITH, made[ZENITH])


async def test_a_damaged_model_is_refused_to_its_project_alone(tmp_path: Path) -> None:
    """What is remembered of a refusal holds for the version of one project."""
    house = House(tmp_path)
    house.publish(ACME, b"no model")
    house.publish(ZENITH, DARK_ONE)
    with pytest.raises(Exception, match="nuclei@1"):
        await house.get(ACME)
    assert said(await house.get(ZENITH)) == 1


async def test_batches_never_mix_projects() -> None:
    """Requests for models of one name and version wait together, and run apart."""
    the = Setting()
    models = {project: model_of(Mirror(), project=project) for project in (ACME, ZENITH)}
    async with the.busy():
        asked = [
            the.ask(image(value), model=models[(ACME, ZENITH)[value % 2]]) for value in range(4)
        ]
    assert values(await asyncio.gather(*asked)) == [0, 1, 2, 3]
    for project, model in models.items():
        runtime = model.runtime
        assert isinstance(runtime, Mirror)
        assert runtime.sizes == [2], project


def test_statistics_are_a_projects_own() -> None:
    """Neither counts nor the names of what was asked are seen by another project."""
    statistics = Statistics()
    statistics.of(Owned(ACME, "nuclei@1")).images = 7
    statistics.of(Owned(ZENITH, "nuclei@1")).images = 1
    statistics.of(Owned(ACME, "secret@1"))
    assert statistics.references(ACME) == ["nuclei@1", "secret@1"]
    assert statistics.references(ACME, "secret") == ["secret@1"]
    assert statistics.references(ZENITH) == ["nuclei@1"]
    assert statistics.references(ZENITH, "secret") == []
    assert statistics.peek(Owned(ZENITH, "nuclei@1")).images == 1
    assert statistics.peek(Owned(DEFAULT, "nuclei@1")).images == 0


def test_settings_name_models_of_projects() -> None:
    """A reference may begin with a project; nothing else may, and none is the default one."""
    field = "HISTILL_INFERENCE__PRELOAD"
    assert parse_owned("nuclei@3", field=field) == Owned(DEFAULT, "nuclei@3")
    assert parse_owned("acme/nuclei@best", field=field) == Owned(ACME, "nuclei@best")
    assert str(parse_owned("acme/nuclei@best", field=field)) == "acme/nuclei@best"
    assert str(parse_owned("default/nuclei", field=field)) == "nuclei"
    for wrong in ("/nuclei", "acme/", "a/b/nuclei", "Acme/nuclei", "acme/nuclei@", "../nuclei"):
        with pytest.raises(InvalidArgumentError, match=f"^{field}: "):
            parse_owned(wrong, field=field)


def test_limits_of_batches_are_of_a_projects_model() -> None:
    """A name without a project is that of the project ``default``."""
    batching = Batching.model_validate(
        {"max_batch": 2, "models": {"nuclei": {"max_batch": 3}, "acme/nuclei": {"max_batch": 5}}}
    )
    owners = (DEFAULT, ACME, ZENITH)
    found = [batching.of(str(Owned(each, "nuclei")), device="cpu").max_batch for each in owners]
    assert found == [3, 5, 2]
