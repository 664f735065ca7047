"""Checkpoints in the object store."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryObjects
from histill.core.errors import StorageUnavailableError
from histill.distill.checkpoints import Checkpoints

if TYPE_CHECKING:
    from pathlib import Path


class Away(MemoryObjects):
    """A store that takes nothing."""

    def put_file(self, key: str, path: Path) -> None:
        raise StorageUnavailableError(f"{key} {path.name}")


class Odd(MemoryObjects):
    """A store that answers nonsense."""

    def put_file(self, key: str, path: Path) -> None:
        raise ValueError(f"{key} {path.name}")


def checkpoints(objects: MemoryObjects, path: Path, *, fence: int) -> Checkpoints:
    return Checkpoints(objects, "job", fence, path)


def test_the_next_attempt_finds_what_the_last_one_stored(tmp_path: Path) -> None:
    """Of several attempts the one with the highest fencing number counts."""
    objects = MemoryObjects()
    for fence in (9, 10, 2):
        path = tmp_path / str(fence)
        path.write_bytes(b"of %d" % fence)
        checkpoints(objects, path, fence=fence).store()
    found = checkpoints(objects, tmp_path / "found", fence=11)
    assert found.fetch()
    assert found.path.read_bytes() == b"of 10"


def test_without_a_checkpoint_a_run_begins_at_the_beginning(tmp_path: Path) -> None:
    """Nothing is written."""
    found = checkpoints(MemoryObjects(), tmp_path / "found", fence=1)
    assert not found.fetch()
    assert not found.path.exists()
    found.store()
    assert list(found.objects.list("")) == []


def test_a_file_is_stored_once(tmp_path: Path) -> None:
    """Neither again while it is the same, nor back where it was fetched from."""
    objects = MemoryObjects()
    mine = checkpoints(objects, tmp_path / "mine", fence=1)
    mine.path.write_bytes(b"one")
    mine.store()
    objects.data.clear()
    mine.store()
    assert objects.data == {}
    objects.data["jobs/job/checkpoints/000000000001.safetensors"] = b"one"
    later = checkpoints(objects, tmp_path / "later", fence=2)
    assert later.fetch()
    later.store()
    assert len(objects.data) == 1


def test_a_store_that_is_away_does_not_end_the_run(tmp_path: Path) -> None:
    """The next call tries again."""
    mine = checkpoints(Away(), tmp_path / "mine", fence=1)
    mine.path.write_bytes(b"one")
    mine.store()
    mine.objects = MemoryObjects()
    mine.store()
    assert list(mine.objects.list("jobs/job/")) == ["jobs/job/checkpoints/000000000001.safetensors"]


def test_all_is_stored_when_the_block_ends(tmp_path: Path) -> None:
    """What is written while it runs is stored, and nothing is under way after it."""
    mine = checkpoints(MemoryObjects(), tmp_path / "mine", fence=1)
    with mine.stored():
        mine.path.write_bytes(b"one")
        deadline = time.monotonic() + 20
        while not list(mine.objects.list("")) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert list(mine.objects.list("")) == ["jobs/job/checkpoints/000000000001.safetensors"]
    assert "stored" not in {thread.name for thread in threading.enumerate()}


def test_a_damaged_answer_does_not_end_the_run(tmp_path: Path) -> None:
    """Whatever the store says of a checkpoint, the training goes on."""
    mine = checkpoints(Odd(), tmp_path / "mine", fence=1)
    mine.path.write_bytes(b"one")
    mine.store()


def test_what_was_written_last_is_stored_when_the_block_is_left(tmp_path: Path) -> None:
    """A draining worker's trainer writes one more, and dies at once; nobody polls in between."""
    mine = checkpoints(MemoryObjects(), tmp_path / "mine", fence=1)

    def broken_off() -> None:
        with mine.stored():
            mine.path.write_bytes(b"last words")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert mine.objects.get("jobs/job/checkpoints/000000000001.safetensors") == b"last words"
