"""Uploads made to break the registry rather than to be used."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
import struct
import tarfile
import zlib
from collections import namedtuple
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from PIL import Image
from safetensors.numpy import save_file

from histill.api.registry.v1 import model_pb2
from histill.api.registry.v1 import registry_service_pb2 as pb
from histill.core.errors import (
    DeadlineExceededError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from histill.core.headers import model_manifest
from histill.core.manifests import ArtifactFile
from histill.registry.receiving import Scratch, receive
from histill.registry.servicer import _parameters
from histill.registry.shards import check_shards
from histill.registry.weights import count_parameters
from students import manifest, student

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOW = datetime(2026, 5, 4, tzinfo=UTC)
WEIGHTS = ArtifactFile(path="weights.safetensors", size=1, sha256="0" * 64)


def png(size: tuple[int, int], mode: str) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def claimed(width: int, height: int) -> bytes:
    """A PNG of few bytes that claims a size."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
    ):
        check = struct.pack(">I", zlib.crc32(kind + data))
        parts.append(struct.pack(">I", len(data)) + kind + data + check)
    return b"".join(parts)


PAIR = [("train/a.image.png", png((4, 3), "RGB")), ("train/a.label.png", png((4, 3), "L"))]


def shard(path: Path, members: list[tuple[str, bytes]], **header: object) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in header.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return path


def check(*shards: Path) -> None:
    check_shards(shards, splits={"train": 1}, channels=3, max_pixels=10**9)


def test_an_image_that_claims_billions_of_pixels_is_refused(tmp_path: Path) -> None:
    """It is a wrong argument, even above the limit at which Pillow itself gives up."""
    bomb = [("train/a.image.png", claimed(60_000, 60_000)), PAIR[1]]
    with pytest.raises(InvalidArgumentError, match="pixels"):
        check(shard(tmp_path / "shard-0.tar", bomb))


def test_a_member_may_come_once(tmp_path: Path) -> None:
    """Neither in one shard nor in two: which one would count?"""
    with pytest.raises(InvalidArgumentError, match="comes twice"):
        check(shard(tmp_path / "shard-0.tar", PAIR + PAIR[:1]))
    whole = shard(tmp_path / "shard-1.tar", PAIR)
    with pytest.raises(InvalidArgumentError, match="comes twice"):
        check(whole, whole)


def test_a_long_extension_header_is_refused_unread(tmp_path: Path) -> None:
    """Python would read such headers into memory whole, however long they are."""
    path = tmp_path / "shard-0.tar"
    shard(path, PAIR, pax_headers={"comment": "x" * 100_000})
    with pytest.raises(InvalidArgumentError, match="bytes of header"):
        check(path)


def test_long_names_are_still_taken(tmp_path: Path) -> None:
    """A name that needs a short extension header is no attack."""
    name = "train/" + "a" * 110
    check(shard(tmp_path / "s.tar", [(f"{name}{end[7:]}", data) for end, data in PAIR]))


def test_sparse_members_are_refused(tmp_path: Path) -> None:
    """A few bytes could stand for as many as one likes."""
    path = shard(tmp_path / "s.tar", PAIR, pax_headers={"GNU.sparse.size": "1000000000"})
    with pytest.raises(InvalidArgumentError, match="only plain files"):
        check(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"[" * 200_000, "recursion"),
        (
            b'{"a": {"dtype": "F32", "shape": [' + b"9," * 9999 + b'9], "data_offsets": [0, 0]}}',
            "dimensions",
        ),
    ],
    ids=["deep", "long shape"],
)
def test_a_header_that_exhausts_its_reader_is_refused(
    tmp_path: Path, header: bytes, words: str
) -> None:
    """Deep nesting and endless shapes are wrong arguments, quickly."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InvalidArgumentError, match=words):
        count_parameters(path, field="f")


@pytest.mark.parametrize("field", ["mean", "std", "metrics"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_statistics_that_are_no_numbers_are_refused(field: str, value: float) -> None:
    """A model normalised by NaN answers nonsense, and its manifest might not be read again."""
    header = pb.ModelHeader(
        model_name="m",
        role=model_pb2.MODEL_ROLE_TEACHER,
        channels=1,
        classes=["background", "object"],
        mean=[value if field == "mean" else 0.5],
        std=[value if field == "std" else 0.5],
        metrics={"dice": value if field == "metrics" else 0.5},
    )
    with pytest.raises(InvalidArgumentError) as caught:
        model_manifest(header, [WEIGHTS], now=NOW)
    assert {violation.field for violation in caught.value.violations} == {f"header.{field}"}


def test_deep_network_json_is_refused() -> None:
    """Nesting without end is no network."""
    header = pb.ModelHeader(
        model_name="m",
        role=model_pb2.MODEL_ROLE_TEACHER,
        channels=1,
        mean=[0],
        std=[1],
        network_json="[" * 200_000,
    )
    with pytest.raises(InvalidArgumentError, match="network_json"):
        model_manifest(header, [WEIGHTS], now=NOW)


async def chunks(data: bytes) -> AsyncIterator[pb.FileChunk]:
    yield pb.FileChunk(path="f", data=data)


async def test_a_full_scratch_folder_is_told_before_anything_is_received(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot fit is refused with the setting to change and a time to try again."""
    usage = namedtuple("usage", "free")  # noqa: PYI024 - as shutil has it
    monkeypatch.setattr("histill.registry.receiving.shutil.disk_usage", lambda _: usage(free=10))
    file = ArtifactFile(path="f", size=11, sha256="0" * 64)
    with pytest.raises(ResourceExhaustedError, match="HISTILL_UPLOAD__SCRATCH") as caught:
        await receive(chunks(b"x" * 11), [file], tmp_path)
    assert caught.value.retry_after_s
    assert not (tmp_path / "f").exists()


async def test_a_disk_that_fills_up_meanwhile_is_told_too(tmp_path: Path) -> None:
    """The kernel's own refusal becomes the same words (/dev/full has never room)."""
    data = b"x" * 20_000
    (tmp_path / "f").symlink_to("/dev/full")
    file = ArtifactFile(path="f", size=len(data), sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(ResourceExhaustedError, match="no room"):
        await receive(chunks(data), [file], tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx"])
def test_an_onnx_file_beside_weights_is_looked_at(tmp_path: Path, name: str) -> None:
    """It would read files of whoever loads it."""
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "weights.safetensors")
    (tmp_path / name).write_bytes(student())
    assert _parameters(tmp_path, manifest(b"")) == 3
    model = onnx.load_from_string(student())
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL
    (tmp_path / name).write_bytes(model.SerializeToString())
    with pytest.raises(InvalidArgumentError, match=f"{name} keeps a tensor in another file"):
        _parameters(tmp_path, manifest(b""))


async def slow(count: int, pause_s: float) -> AsyncIterator[pb.FileChunk]:
    for _ in range(count):
        yield pb.FileChunk(path="f", data=b"x")
        await asyncio.sleep(pause_s)


async def test_an_upload_that_stands_still_or_crawls_ends(tmp_path: Path) -> None:
    """A client that sends nothing, or a byte at a time, keeps no room for ever."""
    file = ArtifactFile(path="f", size=1000, sha256="0" * 64)
    with pytest.raises(DeadlineExceededError, match=r"no chunk came for 0\.05 s after 1 bytes"):
        await receive(slow(2, 9), [file], tmp_path, idle_s=0.05, bytes_per_s=1)
    with pytest.raises(DeadlineExceededError, match="too slow"):
        await receive(slow(1000, 0.02), [file], tmp_path, idle_s=0.1, bytes_per_s=1000)


async def test_room_that_others_announced_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two uploads that fit alone and not together: the second is told to come back."""
    usage = namedtuple("usage", "free")  # noqa: PYI024 - as shutil has it
    monkeypatch.setattr("histill.registry.receiving.shutil.disk_usage", lambda _: usage(free=15))
    scratch = Scratch()
    with scratch.room(10, tmp_path) as first:
        with pytest.raises(ResourceExhaustedError), scratch.room(6, tmp_path):
            pass
        first.written(4)  # which the disk counts
        with scratch.room(9, tmp_path):
            pass
    with scratch.room(15, tmp_path):
        pass
