"""Tar shards that may hold anything."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from histill.core.errors import InvalidArgumentError
from histill.registry.shards import check_shards

if TYPE_CHECKING:
    from pathlib import Path


def png(size: tuple[int, int] = (4, 3), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


GOOD = {"train/a.image.png": png(), "train/a.label.png": png(mode="I;16")}


def shard(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "shard-0.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def check(path: Path, **changes: int) -> None:
    check_shards([path], splits={"train": 1}, channels=3, max_pixels=changes.get("pixels", 100))


def test_pairs_of_pngs_pass(tmp_path: Path) -> None:
    """An image and its label of the same size are what is wanted."""
    check(shard(tmp_path, GOOD))


def test_a_training_image_may_come_without_a_label(tmp_path: Path) -> None:
    """Teachers can speak about it."""
    check(shard(tmp_path, {"train/a.image.png": png()}))


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"../evil.image.png": png()}, "only plain files"),
        ({"/etc/passwd": b"x"}, "only plain files"),
        ({"val/a.image.png": png()}, "lacks its image or its label"),
        ({"train/a.label.png": png(mode="L")}, "lacks its image or its label"),
        (GOOD | {"train/a.label.png": png((9, 9), "L")}, "an image of"),
        (GOOD | {"train/a.image.png": b"not a png"}, "is no PNG"),
        (GOOD | {"train/a.image.png": png(mode="L")}, "is of mode L"),
        (GOOD | {"val/b.image.png": png(), "val/b.label.png": png(mode="L")}, "header.splits"),
        ({}, "header.splits"),
    ],
)
def test_anything_else_is_named(tmp_path: Path, members: dict[str, bytes], words: str) -> None:
    """Names, pairs, modes, sizes and counts are checked before anything is stored."""
    with pytest.raises(InvalidArgumentError, match=words):
        check(shard(tmp_path, members))


def test_links_are_refused(tmp_path: Path) -> None:
    """A link under a good name is still no plain file."""
    path = tmp_path / "shard-0.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("train/a.image.png")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(InvalidArgumentError, match="only plain files"):
        check(path)


def test_too_many_pixels_are_refused_by_the_header(tmp_path: Path) -> None:
    """The limit is applied to what the PNG claims, before decoding."""
    with pytest.raises(InvalidArgumentError, match="at most 5"):
        check(shard(tmp_path, GOOD), pixels=5)


def test_what_is_no_tar_is_named(tmp_path: Path) -> None:
    """A compressed or broken archive is refused."""
    path = tmp_path / "shard-0.tar"
    path.write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(InvalidArgumentError, match="is no tar file"):
        check(path)
