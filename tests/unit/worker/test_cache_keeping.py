"""What a worker keeps on its disk, and what it tells of it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fakes import MemoryHoldings, MemoryObjects
from histill.core.catalog import DATASETS
from histill.core.errors import StorageUnavailableError
from histill.core.ports import Told
from histill.core.projects import scoped
from histill.distill import cache_keeping
from histill.distill.cache_keeping import CacheKeeper
from histill.distill.teacher_cache import TeacherCache, cache_folder, digest

if TYPE_CHECKING:
    from pathlib import Path

    from histill.core.ports import ObjectStore

ENTRY = digest(b"entry")


@pytest.fixture
def keeper(tmp_path: Path) -> CacheKeeper:
    """A keeper over empty folders, in whose store each project has ``d@1``."""
    objects = MemoryObjects()
    for project in ("default", "acme"):
        scoped(objects, project).put(DATASETS.manifest_key("d", 1), b"{}")
    return CacheKeeper(
        objects, MemoryHoldings(), tmp_path / "cache", 1 << 30, tmp_path / "scratch", "w"
    )


def put(keeper: CacheKeeper, project: str, dataset: str, *, key: str = ENTRY) -> Path:
    folder = cache_folder(str(keeper.cache), project=project, dataset=dataset)
    cache = TeacherCache(pathed(folder), limit=1 << 30)
    cache.put(key, np.random.default_rng(0).normal(size=(2, 20, 20)).astype(np.float16))
    return cache.folder


def pathed(text: str) -> Any:
    from pathlib import Path

    return Path(text)


def test_what_was_said_of_a_dataset_goes_with_it(keeper: CacheKeeper) -> None:
    """Of the project whose dataset is gone, and of no other of that name."""
    ours, theirs = put(keeper, "default", "d@1"), put(keeper, "acme", "d@1")
    gone = put(keeper, "default", "d@2")
    assert keeper.look(1) == {"default/d@1", "acme/d@1"}
    assert (ours.exists(), theirs.exists(), gone.exists()) == (True, True, False)
    keeper.objects.delete(DATASETS.manifest_key("d", 1))
    assert keeper.look(2) == {"acme/d@1"}
    assert keeper.holdings.told() == {"w": Told(2, frozenset({"acme/d@1"}))}
    assert (ours.exists(), theirs.exists()) == (False, True)


def test_a_store_that_is_away_removes_nothing(keeper: CacheKeeper) -> None:
    """Only a store that answers can say that a dataset is gone."""

    class Away(MemoryObjects):
        def get(self, key: str) -> bytes:
            raise StorageUnavailableError(key)

    folder = put(keeper, "default", "d@2")
    away: ObjectStore = Away()
    keeper.objects = away
    assert keeper.look(1) == {"default/d@2"}
    assert folder.exists()


def test_entries_that_tell_nobodys_name_go_and_strangers_stay(keeper: CacheKeeper) -> None:
    """An earlier layout kept entries without their dataset; other files are not ours."""
    cache = pathed(str(keeper.cache))
    (cache / "ab").mkdir(parents=True)
    (cache / "ab" / ENTRY).write_bytes(b"old")
    (cache / "ab" / "notes.txt").write_text("somebody's")
    (cache / "Somebody").mkdir()
    keeper.look(1)
    assert not (cache / "ab" / ENTRY).exists()
    assert (cache / "ab" / "notes.txt").exists()
    assert (cache / "Somebody").is_dir()


def test_all_datasets_share_one_limit(keeper: CacheKeeper) -> None:
    """The least recently used entry goes first, whose ever it is."""
    old = put(keeper, "default", "d@1") / ENTRY[:2] / ENTRY
    new = put(keeper, "acme", "d@1") / ENTRY[:2] / ENTRY
    os.utime(old, (1, 1))
    keeper.cache_bytes = new.stat().st_size + 10
    keeper.look(1)
    assert (old.exists(), new.exists()) == (False, True)


def test_work_folders_are_told_and_those_of_dead_workers_swept(keeper: CacheKeeper) -> None:
    """A folder that nobody locks holds images of nobody's work."""
    dead = keeper.scratch / "histill-worker-dead" / "0123456789abcdef0123-xyz"
    dead.mkdir(parents=True)
    (dead.parent / "lock").touch()
    assert keeper.look(1) == frozenset()
    assert not dead.exists()
    unlocked = keeper.scratch / "histill-worker-made" / "0123456789abcdef0123-xyz"
    unlocked.mkdir(parents=True)  # without its lock yet: another worker is just making it
    assert keeper.look(1) == {"jobs/0123456789abcdef0123"}


def test_a_question_is_answered_at_once(
    keeper: CacheKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before the next look is due; a worker that ends clean is known no more."""
    monkeypatch.setattr(cache_keeping, "_POLL_S", 0.01)
    monkeypatch.setattr(cache_keeping, "EVERY_S", 1000.0)
    with keeper.kept():
        question = keeper.holdings.ask()
        deadline = time.monotonic() + 10
        while keeper.holdings.told().get("w", Told(0, frozenset())).asked < question:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert keeper.holdings.told() == {}
