"""Reading tar shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from histill.core.errors import WorkFailedError
from histill.distill.shards import read_shards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Write = Callable[[Path, Mapping[str, bytes]], None]


def test_pairs_come_by_split_and_sorted_id(tmp_path: Path, write_shard: Write) -> None:
    """Members of all shards are joined; ids are sorted whatever the order of members."""
    write_shard(
        tmp_path / "shard-00000.tar",
        {"train/b.image.png": b"1", "train/b.label.png": b"2", "val/x.image.png": b"3"},
    )
    write_shard(
        tmp_path / "shard-00001.tar", {"./train/a.image.png": b"4", "train/notes.txt": b"5"}
    )
    splits = read_shards(tmp_path)
    assert list(splits["train"]) == ["a", "b"]
    assert (splits["train"]["b"].image, splits["train"]["b"].label) == (b"1", b"2")
    assert splits["val"]["x"].label is None


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"train/a.label.png": b"1"}, "a label and no image"),
        ({"train/a.image.png": b"1", "./train/a.image.png": b"1"}, "there twice"),
    ],
)
def test_incomplete_or_double_members_are_refused(
    members: dict[str, bytes], words: str, tmp_path: Path, write_shard: Write
) -> None:
    """A label without an image, or a member that comes twice, is DATASET_INVALID."""
    write_shard(tmp_path / "shard-00000.tar", members)
    with pytest.raises(WorkFailedError, match=words) as caught:
        read_shards(tmp_path)
    assert caught.value.reason == "DATASET_INVALID"


def test_what_is_no_tar_is_refused(tmp_path: Path) -> None:
    """Bytes that are no tar file are DATASET_INVALID."""
    (tmp_path / "shard-00000.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(WorkFailedError, match="is no tar file"):
        read_shards(tmp_path)


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    """An empty dataset is DATASET_INVALID."""
    with pytest.raises(WorkFailedError, match="no shards"):
        read_shards(tmp_path)
