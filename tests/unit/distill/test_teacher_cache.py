"""The predictions that outlast a run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from histill.distill.teacher_cache import TeacherCache, digest

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (3, 20, 30)


@pytest.fixture
def cache(tmp_path: Path) -> TeacherCache:
    """A cache of a few entries."""
    return TeacherCache(tmp_path / "cache", limit=10_000)


def logits(seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float16)


def test_what_is_put_comes_back_bit_for_bit(cache: TeacherCache) -> None:
    """Also values that are not finite, and views that are not contiguous."""
    values = logits()
    values[0, 0, :3] = [np.nan, np.inf, -0.0]
    cache.put("ab1", values[:, ::-1])
    got = cache.get("ab1", SHAPE)
    assert got is not None
    assert got.tobytes() == np.ascontiguousarray(values[:, ::-1]).tobytes()


def test_what_is_not_there_is_none(cache: TeacherCache) -> None:
    """A key that nobody put is a miss, also before the folder is made."""
    assert cache.get("ab1", SHAPE) is None


@pytest.mark.parametrize("damage", [b"", b"no zlib", b"cut"])
def test_a_damaged_entry_is_a_miss_and_is_named(
    damage: bytes, cache: TeacherCache, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half an entry, or other bytes, cost a prediction and never a wrong result."""
    cache.put("ab1", logits())
    path = cache.folder / "ab" / "ab1"
    path.write_bytes(path.read_bytes()[:50] if damage == b"cut" else damage)
    assert cache.get("ab1", SHAPE) is None
    assert "teacher_cache_entry_unreadable" in capsys.readouterr().out


def test_an_entry_of_another_shape_is_a_miss(cache: TeacherCache) -> None:
    """The size of what is stored is checked against what is asked for."""
    cache.put("ab1", logits())
    assert cache.get("ab1", (3, 20, 31)) is None


def test_the_least_recently_used_go_first(cache: TeacherCache) -> None:
    """Reading an entry keeps it; trimming removes old ones until the rest fits."""
    for index, key in enumerate(["aa1", "bb1", "cc1", "dd1"]):
        cache.put(key, logits(index))
        os.utime(cache.folder / key[:2] / key, (index, index))
    assert cache.get("aa1", SHAPE) is not None
    size = (cache.folder / "aa" / "aa1").stat().st_size
    TeacherCache(cache.folder, limit=2 * size + 200).trim()
    assert [key for key in ("aa1", "bb1", "cc1", "dd1") if cache.get(key, SHAPE) is not None] == [
        "aa1",
        "dd1",
    ]


def test_a_disk_that_takes_nothing_costs_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """When the folder cannot be made, the entry is lost and the log says so."""
    (tmp_path / "file").write_text("in the way")
    TeacherCache(tmp_path / "file", limit=1).put("ab1", logits())
    assert "teacher_cache_not_written" in capsys.readouterr().out


def test_only_the_owner_may_read(cache: TeacherCache) -> None:
    """Predictions show the outlines of patients' tissue."""
    cache.put("ab1", logits())
    assert (cache.folder / "ab").stat().st_mode & 0o077 == 0
    assert (cache.folder / "ab" / "ab1").stat().st_mode & 0o077 == 0


def test_keys_differ_when_any_part_does() -> None:
    """Parts are delimited: moving a byte from one to the next is another key."""
    keys = {digest(b"a", b"bc"), digest(b"ab", b"c"), digest(b"a", b"b", b"c"), digest(b"abc")}
    assert len(keys) == 4
