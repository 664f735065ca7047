"""Shards that make their reader hold much, or never end."""

from __future__ import annotations

import io
import struct
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

import bombs
from histill.core.errors import InvalidArgumentError
from histill.registry.shards import MAX_IMAGES, check_shards
from histill.registry.weights import MAX_HEADER_BYTES, count_parameters

if TYPE_CHECKING:
    from pathlib import Path


def shard(folder: Path, *names: str, data: bytes = b"", **fields: Any) -> Path:
    path = folder / "shard-00000.tar"
    with tarfile.open(path, "w") as archive:
        for name in names or ("train/a.image.png",):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return path


def check(path: Path, images: int = 1) -> None:
    check_shards([path], splits={"train": images}, channels=3, max_pixels=100)


@pytest.mark.parametrize(
    "fields",
    [
        {"pax_headers": {"size": "-1024"}},
        {"type": tarfile.GNUTYPE_SPARSE},
        {"type": tarfile.XGLTYPE},
        {
            "pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
            "data": b"9999999\n" + b"0\n" * 1000,
        },
    ],
    ids=["backwards", "old sparse", "for all that follows", "list of holes"],
)
def test_headers_that_cost_their_reader_are_refused(tmp_path: Path, fields: Any) -> None:
    """Sizes below 0, lists of holes, and headers that pile up are named as no plain files."""
    with pytest.raises(InvalidArgumentError, match="only plain files"):
        check(shard(tmp_path, **fields))


def test_a_size_below_zero_in_the_header_itself_is_refused(tmp_path: Path) -> None:
    """A reader that believed it would read the same header for ever."""
    path = shard(tmp_path)
    data = bytearray(path.read_bytes())
    data[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    path.write_bytes(data)
    with pytest.raises(InvalidArgumentError, match="only plain files"):
        check(path)


def test_headers_of_headers_are_refused(tmp_path: Path) -> None:
    """Long names that follow on long names would exhaust the stack."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 2
    path = tmp_path / "shard-00000.tar"
    path.write_bytes((header.tobuf(tarfile.GNU_FORMAT) + b"a\0" + bytes(510)) * 5000 + bytes(1024))
    with pytest.raises(InvalidArgumentError, match="is no tar file"):
        check(path)


def test_no_more_images_than_announced_are_remembered(tmp_path: Path) -> None:
    """Reading stops at the first too many; announcing more than can be held is refused."""
    names = [f"train/{number}.image.png" for number in range(5)]
    with pytest.raises(InvalidArgumentError, match=r"header\.splits.*hold more"):
        check(shard(tmp_path, *names, data=bombs.small_png()), images=3)
    with pytest.raises(InvalidArgumentError, match=r"header\.splits.*are the most"):
        check(shard(tmp_path), images=MAX_IMAGES + 1)


def test_long_names_do_not_make_long_errors(tmp_path: Path) -> None:
    """What is told fits a status."""
    with pytest.raises(InvalidArgumentError) as caught:
        check(shard(tmp_path, "x" * 30_000))
    assert len(str(caught.value)) < 500


def test_a_long_header_of_weights_is_refused_unread(tmp_path: Path) -> None:
    """JSON takes thirty times its size in memory."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", MAX_HEADER_BYTES + 1) + bytes(MAX_HEADER_BYTES + 1))
    with pytest.raises(InvalidArgumentError, match="are the most"):
        count_parameters(path, field="f")
