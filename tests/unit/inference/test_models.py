"""Models in memory, and which of them answers for a reference."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryObjects, MemoryVersions
from histill.core import catalog
from histill.core.errors import (
    CorruptArtifactError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    StorageUnavailableError,
)
from histill.core.manifests import INT8, INT8_LOSS, ONNX
from histill.core.names import Reference
from histill.core.projects import DEFAULT, scoped
from histill.core.specs import NetworkSpec
from histill.inference import choosing
from histill.inference.choosing import Means
from histill.inference.directory import Directory
from histill.inference.listing import Listing
from histill.inference.models import ModelPool
from histill.inference.onnx_runtime import OnnxRuntime
from histill.inference.owned import Owned
from students import manifest, publish, student

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from histill.core.manifests import ModelManifest

DATA = student()
SIZE = len(DATA)


class Loader:
    """Loads students, and remembers which."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def __call__(self, manifest: ModelManifest, read: Callable[[str], bytes]) -> OnnxRuntime:
        data = read(ONNX)
        self.loaded.append(manifest.reference)
        return OnnxRuntime.load(
            data, reference=manifest.reference, channels=3, threads=1, device="cpu"
        )


@pytest.fixture
def store() -> MemoryObjects:
    """An empty store."""
    return MemoryObjects()


@pytest.fixture
def loader() -> Loader:
    """Remembers what was loaded."""
    return Loader()


def mine(reference: str) -> Owned:
    return Owned(DEFAULT, reference)


def pool_of(store: MemoryObjects, loader: Loader, *, models: float = 10) -> ModelPool:
    return ModelPool(partial(scoped, store), loader, budget_bytes=int(models * SIZE))


async def test_many_who_ask_load_once(store: MemoryObjects, loader: Loader, tmp_path: Path) -> None:
    """Concurrent requests for a model wait for one load and get the same model."""
    made = publish(store, DATA, tmp_path)
    pool = pool_of(store, loader)
    models = await asyncio.gather(*(pool.get(DEFAULT, made) for _ in range(5)))
    assert loader.loaded == ["nuclei@1"]
    assert all(each is models[0] for each in models)


async def test_the_least_recently_used_goes_first(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """Within the budget of two, the third pushes out the one not asked for longest."""
    first, second, third = (publish(store, DATA, tmp_path) for _ in range(3))
    pool = pool_of(store, loader, models=2.5)
    for each in (first, second, first, third):
        await pool.get(DEFAULT, each)
    assert pool.loaded(DEFAULT) == {"nuclei@1", "nuclei@3"}


async def test_pinned_models_stay(store: MemoryObjects, loader: Loader, tmp_path: Path) -> None:
    """What is pinned is not pushed out; what then finds no room is refused."""
    first, second, third = (publish(store, DATA, tmp_path) for _ in range(3))
    pool = pool_of(store, loader, models=2.5)
    pool.pin({mine("nuclei@1"), mine("nuclei@2")})
    await pool.get(DEFAULT, first)
    await pool.get(DEFAULT, second)
    with pytest.raises(ResourceExhaustedError, match="HISTILL_INFERENCE__CACHE_BYTES"):
        await pool.get(DEFAULT, third)
    assert pool.loaded(DEFAULT) == {"nuclei@1", "nuclei@2"}


async def test_a_model_larger_than_the_budget_is_refused(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """It is not even fetched."""
    made = publish(store, DATA, tmp_path)
    with pytest.raises(ResourceExhaustedError, match="more than HISTILL_INFERENCE__CACHE_BYTES"):
        await pool_of(store, loader, models=0.5).get(DEFAULT, made)
    assert loader.loaded == []


async def test_corrupt_bytes_are_refused_and_not_fetched_again_at_once(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """Bytes that differ from the digest never reach the runtime; the refusal is remembered."""
    made = publish(store, DATA, tmp_path)
    good = store.data["models/nuclei/1/model.onnx"]
    store.data["models/nuclei/1/model.onnx"] = good[:-1] + b"!"
    pool = pool_of(store, loader)
    with pytest.raises(CorruptArtifactError, match="differs from its manifest"):
        await pool.get(DEFAULT, made)
    store.data["models/nuclei/1/model.onnx"] = good
    with pytest.raises(CorruptArtifactError, match="differs from its manifest"):
        await pool.get(DEFAULT, made)
    assert loader.loaded == []


def publish_with_int8(store: MemoryObjects, folder: Path, int8: bytes) -> ModelManifest:
    paths = [folder / ONNX, folder / INT8]
    for path, data in zip(paths, (DATA, int8), strict=True):
        path.write_bytes(data)
    like = manifest(DATA).model_copy(
        update={"files": tuple(map(catalog.file_of, paths)), "metrics": {INT8_LOSS: 0.0}}
    )
    return catalog.publish(store, MemoryVersions(), catalog.MODELS, like, paths)


def in_integers(manifest: ModelManifest, read: Callable[[str], bytes]) -> OnnxRuntime:
    """Takes the second file, once it has seen the first."""
    assert read(ONNX) == DATA
    return OnnxRuntime.load(
        read(INT8), reference=manifest.reference, channels=3, threads=1, device="cpu",
        precision="int8",
    )  # fmt: skip


async def test_the_budget_counts_what_stays(store: MemoryObjects, tmp_path: Path) -> None:
    """Of two files that were read only the one that answers takes room."""
    small = student(channels=3, classes=2, threshold=100.0)
    made = publish_with_int8(store, tmp_path, small)
    pool = ModelPool(partial(scoped, store), in_integers, budget_bytes=max(SIZE, len(small)))
    model = await pool.get(DEFAULT, made)
    assert model.size_bytes == len(small)
    assert model.runtime.precision == "int8"


async def test_a_damaged_second_file_is_refused(store: MemoryObjects, tmp_path: Path) -> None:
    """As the first is: bytes that differ from the digest never reach a runtime."""
    made = publish_with_int8(store, tmp_path, DATA)
    store.data[f"models/nuclei/1/{INT8}"] = DATA[:-1] + b"!"
    means = Means(workers=1, threads=1, device="cpu", runtime="auto", precision="auto")
    pool = ModelPool(
        partial(scoped, store), partial(choosing.load, means=means), budget_bytes=10 * SIZE
    )
    with pytest.raises(CorruptArtifactError, match=r"model\.int8\.onnx differs from its manifest"):
        await pool.get(DEFAULT, made)


async def test_a_teacher_cannot_be_served(store: MemoryObjects, loader: Loader) -> None:
    """A version without model.onnx is refused with what to do."""
    teacher = manifest(DATA).model_copy(update={"files": ()})
    with pytest.raises(FailedPreconditionError, match="distil a student"):
        await pool_of(store, loader).get(DEFAULT, teacher)


def publish_classifier(store: MemoryObjects, folder: Path) -> ModelManifest:
    like = manifest(DATA, name="digits")
    network = NetworkSpec(architecture="lenet5")
    changes = {"task": "classification", "image_size": 32, "network": network}
    return publish(store, DATA, folder, like=like.model_copy(update=changes))


async def test_a_classifier_cannot_be_served(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """Whoever asks for one is told why, and its file is not even fetched."""
    publish_classifier(store, tmp_path)
    directory = directory_of(store, pool_of(store, loader))
    words = r"digits@1 is for classification and cannot be served here"
    with pytest.raises(FailedPreconditionError, match=words):
        await directory.get(mine("digits"))
    assert loader.loaded == []


async def test_classifiers_are_not_listed(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """Neither among all models nor as a version of theirs, and the others are."""
    publish_classifier(store, tmp_path)
    publish(store, DATA, tmp_path)
    listing = Listing(partial(scoped, store), pool_of(store, loader))
    assert [each.manifest.reference for each in await listing.served(DEFAULT)] == ["nuclei@1"]
    assert await listing.versions(DEFAULT, "digits") == []


async def test_an_alias_that_moves_to_a_classifier_changes_nothing(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """The version before goes on answering."""
    publish(store, DATA, tmp_path)
    directory = directory_of(store, pool_of(store, loader), "nuclei")
    async with following(directory):
        await until(lambda: not directory.missing())
        changes = {"task": "classification", "image_size": 32}
        publish(store, DATA, tmp_path, like=manifest(DATA).model_copy(update=changes))
        await asyncio.sleep(0.1)
        assert (await directory.get(mine("nuclei"))).manifest.version == 1


@contextlib.asynccontextmanager
async def following(directory: Directory) -> AsyncIterator[None]:
    task = asyncio.create_task(directory.follow())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the directory has no event to wait for
            await asyncio.sleep(0.01)


def directory_of(
    store: MemoryObjects, pool: ModelPool, *preload: str, poll_s: float = 0.02
) -> Directory:
    return Directory(partial(scoped, store), pool, preload=preload, poll_s=poll_s)


async def test_references_are_looked_up(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """Latest, version and alias find their models; others do not, or are no references."""
    for _ in range(2):
        publish(store, DATA, tmp_path)
    catalog.set_alias(store, Reference("nuclei", version=1), "production")
    directory = directory_of(store, pool_of(store, loader))
    for reference, expected in (
        ("nuclei", "nuclei@2"),
        ("nuclei@1", "nuclei@1"),
        ("nuclei@production", "nuclei@1"),
    ):
        assert (await directory.get(mine(reference))).manifest.reference == expected
    with pytest.raises(NotFoundError):
        await directory.get(mine("nuclei@stable"))
    with pytest.raises(InvalidArgumentError, match=r"^model: "):
        await directory.get(mine("No Name"))


async def test_preloaded_models_are_missing_until_they_are_there(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """The preload list is loaded in the background, as soon as it can be."""
    directory = directory_of(store, pool_of(store, loader), "nuclei")
    async with following(directory):
        await asyncio.sleep(0.05)
        assert directory.missing() == ["nuclei"]
        publish(store, DATA, tmp_path)
        await until(lambda: not directory.missing())
    assert loader.loaded == ["nuclei@1"]


async def test_a_new_version_is_warm_before_it_answers(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """While the new version loads the old one answers; afterwards the new one does."""
    publish(store, DATA, tmp_path)
    pool = pool_of(store, loader)
    directory = directory_of(store, pool, "nuclei")
    async with following(directory):
        await until(lambda: not directory.missing())
        publish(store, DATA, tmp_path)
        seen = set()
        async with asyncio.timeout(5):
            while (await directory.get(mine("nuclei"))).manifest.version == 1:
                seen.add(frozenset(pool.loaded(DEFAULT)))
                await asyncio.sleep(0.005)
        assert seen <= {frozenset({"nuclei@1"}), frozenset({"nuclei@1", "nuclei@2"})}
    assert loader.loaded == ["nuclei@1", "nuclei@2"]


async def test_a_corrupt_new_version_changes_nothing(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """The version before goes on answering."""
    publish(store, DATA, tmp_path)
    directory = directory_of(store, pool_of(store, loader), "nuclei")
    async with following(directory):
        await until(lambda: not directory.missing())
        publish(store, b"no model", tmp_path)
        await asyncio.sleep(0.2)
        assert (await directory.get(mine("nuclei"))).manifest.version == 1
        assert not directory.missing()


async def test_without_a_store_what_is_loaded_answers(
    store: MemoryObjects, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 that does not answer makes nothing unknown that was known."""
    publish(store, DATA, tmp_path)
    directory = directory_of(store, pool_of(store, loader), "nuclei")
    async with following(directory):
        await until(lambda: not directory.missing())

        def down(*_: object, **__: object) -> None:
            raise StorageUnavailableError("S3 does not answer")

        monkeypatch.setattr(store, "list_folders", down)
        await asyncio.sleep(0.1)
        assert (await directory.get(mine("nuclei"))).manifest.version == 1


async def test_a_deleted_model_is_no_longer_found(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """Once its files are gone, a reference is unknown again."""
    publish(store, DATA, tmp_path)
    directory = directory_of(store, pool_of(store, loader))
    async with following(directory):
        await directory.get(mine("nuclei"))
        catalog.delete(store, catalog.MODELS, Reference("nuclei", version=1))
        await asyncio.sleep(0.2)
        with pytest.raises(NotFoundError):
            await directory.get(mine("nuclei"))


async def test_what_was_let_go_stays_away(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """Neither a round of following that has begun nor one that follows loads it again."""
    publish(store, DATA, tmp_path)
    pool = pool_of(store, loader)
    directory = Directory(partial(scoped, store), pool, preload=(), poll_s=0.01)
    await directory.get(mine("nuclei"))
    following = asyncio.create_task(directory.follow())
    try:
        for _ in range(5):
            await asyncio.sleep(0.02)
            if pool.loaded(DEFAULT):
                directory.unload(mine("nuclei"))
            await asyncio.sleep(0.05)
            assert not pool.loaded(DEFAULT)
            await directory.get(mine("nuclei"))
            assert pool.loaded(DEFAULT)
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


async def test_unloading_wants_a_name(store: MemoryObjects, loader: Loader, tmp_path: Path) -> None:
    """A version or nonsense is refused by field; what is not loaded, and what stays, says so."""
    publish(store, DATA, tmp_path)
    directory = Directory(
        partial(scoped, store), pool_of(store, loader), preload=("nuclei",), poll_s=1
    )
    for wrong in ("nuclei@1", "Bad Name", ""):
        with pytest.raises(InvalidArgumentError, match=r"^model_name: "):
            directory.unload(mine(wrong))
    with pytest.raises(NotFoundError, match="no version of other is loaded"):
        directory.unload(mine("other"))
    with pytest.raises(FailedPreconditionError, match="PRELOAD"):
        directory.unload(mine("nuclei"))


async def test_other_bytes_under_the_same_number_are_loaded_anew(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """What is in memory answers for the manifest that was asked for, and for no other."""
    first = publish(store, DATA, tmp_path)
    pool = pool_of(store, loader)
    before = await pool.get(DEFAULT, first)
    assert await pool.get(DEFAULT, first) is before
    store.data.clear()
    second = publish(store, student(dark_is=0), tmp_path)
    assert second.reference == first.reference
    after = await pool.get(DEFAULT, second)
    assert after.manifest == second
    assert pool.peek(mine("nuclei@1")) is after
    assert loader.loaded == ["nuclei@1", "nuclei@1"]


async def test_a_deleted_version_is_let_go(
    store: MemoryObjects, loader: Loader, tmp_path: Path
) -> None:
    """A round of following that finds it gone unloads it."""
    publish(store, DATA, tmp_path)
    pool = pool_of(store, loader)
    directory = directory_of(store, pool)
    async with following(directory):
        await directory.get(mine("nuclei"))
        catalog.delete(store, catalog.MODELS, Reference("nuclei", version=1))
        await until(lambda: not pool.loaded(DEFAULT))


async def test_a_model_that_hangs_is_refused_and_tried_once(
    store: MemoryObjects, tmp_path: Path
) -> None:
    """Its thread is lost; nobody waits for it, and it gets no second one."""
    made, release = publish(store, DATA, tmp_path), threading.Event()
    calls = 0

    def hang(manifest: ModelManifest, read: Callable[[str], bytes]) -> OnnxRuntime:
        nonlocal calls
        calls += 1
        release.wait(20)
        return Loader()(manifest, read)

    pool = ModelPool(partial(scoped, store), hang, budget_bytes=10 * SIZE, load_s=0.1)
    try:
        for _ in range(2):
            with pytest.raises(CorruptArtifactError, match=r"not ready after 0\.1 s"):
                await pool.get(DEFAULT, made)
    finally:
        release.set()
    assert calls == 1
    assert not pool.loaded(DEFAULT)


async def test_names_of_nothing_are_not_kept(store: MemoryObjects, loader: Loader) -> None:
    """Whoever unloads what is not there leaves nothing in memory."""
    directory = directory_of(store, pool_of(store, loader))
    with pytest.raises(NotFoundError):
        directory.unload(mine("nothing"))
    assert not directory._unloads
