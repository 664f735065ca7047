"""Bombs through the real services: each is answered in words, within memory, and work goes on."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tifffile
from pydicom.uid import JPEG2000Lossless

import bombs
from decoding_processes import children, peak_bytes
from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.api.inference.v2 import grpc_service_pb2_grpc as v2_rpc
from histill.api.registry.v1 import dataset_pb2, model_pb2
from histill.api.registry.v1 import registry_service_pb2 as registry_pb
from histill.api.registry.v1 import registry_service_pb2_grpc as registry_rpc
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.api.segmentation.v1 import segmentation_service_pb2_grpc as rpc
from processes import wait_until_serving
from services import KEY, service, settings_of
from serving import bucket_of, inference
from students import publish, student

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import S3, Valkey
    from processes import Service
    from services import Service as Registry

MEBIBYTE = 1 << 20
MEMORY = 512 * MEBIBYTE
# Of the service: what an upload itself takes, and then some.
GROWTH = 80 * MEBIBYTE
REFUSED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}


@pytest.fixture(scope="module")
def running(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose decoders have half a gigabyte and three seconds each."""
    bucket, store = bucket_of(s3)
    publish(store, student(), tmp_path_factory.mktemp("student"))
    with inference(
        s3,
        tmp_path_factory.mktemp("logs"),
        bucket=bucket,
        preload='["nuclei"]',
        decoder_memory_bytes=str(MEMORY),
        decoder_cpu_s="3",
    ) as it:
        wait_until_serving(it)
        yield it


@pytest.fixture(scope="module")
def stub(running: Service) -> Iterator[rpc.SegmentationServiceStub]:
    """Its segmentation service."""
    with grpc.insecure_channel(running.target) as channel:
        made = rpc.SegmentationServiceStub(channel)
        segment(made, bombs.small_png())
        yield made


def segment(stub: rpc.SegmentationServiceStub, data: bytes) -> grpc.StatusCode:
    """The status with which a streamed image is answered."""

    def parts() -> Iterator[pb.SegmentLargeRequest]:
        header = pb.SegmentLargeHeader(model="nuclei", size_bytes=len(data))
        yield pb.SegmentLargeRequest(header=header)
        for start in range(0, len(data), MEBIBYTE):
            yield pb.SegmentLargeRequest(chunk=data[start : start + MEBIBYTE])

    try:
        list(stub.SegmentLarge(parts(), timeout=90))
    except grpc.RpcError as exc:
        assert isinstance(exc, grpc.Call)  # noqa: PT017 - for its type
        if exc.code() in REFUSED:
            words = exc.details() or ""
            assert "image" in words, words
        return exc.code()
    return grpc.StatusCode.OK


def large_tile() -> bytes:
    """A slide whose one tile is of 16384 x 16384 pixels."""
    side = 16_384
    out = io.BytesIO()
    tile = bombs.deflated(3 * side * side)
    with tifffile.TiffWriter(out) as writer:
        writer.write(
            iter([tile]),
            shape=(side, side, 3),
            dtype=np.uint8,
            tile=(side, side),
            photometric="rgb",
            compression="zlib",
            metadata=None,
        )
    return out.getvalue()


TEXT = b"Comment\0\0"
GIGABYTE = 1 << 30
HARMLESS = REFUSED | {grpc.StatusCode.OK}
# What is claimed or unpacked; and whether it may also be read, since no more of it is than
# is asked for.
IMAGES: dict[str, tuple[Callable[[], bytes], set[grpc.StatusCode]]] = {
    "png of 10^10 pixels": (lambda: bombs.png(100_000, 100_000, b""), REFUSED),
    "tiff of 10^10 pixels": (lambda: bombs.tiff_page(100_000, 100_000, b"x"), REFUSED),
    "jpeg frame of 10^9 pixels": (lambda: bombs.framed_dicom(bombs.jpeg(8, 8).replace(
        struct.pack(">HH", 8, 8), struct.pack(">HH", 40_000, 40_000)), 8, 8), REFUSED),
    "png pixels": (lambda: bombs.png(8, 8, bombs.deflated(2 * GIGABYTE)), HARMLESS),
    "png zTXt": (
        lambda: bombs.small_png((b"zTXt", TEXT + bombs.deflated(2 * GIGABYTE))), HARMLESS
    ),
    "png many zTXt": (
        lambda: bombs.small_png(*[(b"zTXt", TEXT + bombs.deflated(MEBIBYTE - 10))] * 2000),
        REFUSED,
    ),
    "png iCCP": (
        lambda: bombs.small_png((b"iCCP", b"p\0\0" + bombs.deflated(2 * GIGABYTE))), HARMLESS
    ),
    "tiff strip": (lambda: bombs.tiff_page(8, 8, bombs.deflated(2 * GIGABYTE)), HARMLESS),
    "tiff tag": (
        lambda: bombs.tiff_page(8, 8, zlib.compress(bytes(64)), (270, 2, 4_000_000_000, 8)),
        HARMLESS,
    ),
    "tiff of ten gigabytes": (lambda: bombs.deep_tiff(41_600, 41_600), REFUSED),
    "tiff within pixels, over memory": (
        lambda: bombs.tiff_page(14_000, 14_000, bombs.deflated(14_000 * 14_000 * 2), bits=16),
        REFUSED,
    ),
    "slide of one tile": (large_tile, REFUSED),
    "deflated dicom": (lambda: bombs.deflated_dicom(4 * GIGABYTE), REFUSED),
    "dicom frame that is another": (
        lambda: bombs.framed_dicom(bombs.jpeg(8, 8), 60_000, 60_000), REFUSED
    ),
    "dicom frame that is none": (
        lambda: bombs.framed_dicom(bytes(1000), 8, 8, JPEG2000Lossless), REFUSED
    ),
    "jpeg of endless scans": (lambda: bombs.slow_jpeg(3000, 20_000), REFUSED),
}  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), IMAGES.values(), ids=IMAGES)
def test_an_image_bomb_is_refused_within_memory(
    running: Service,
    stub: rpc.SegmentationServiceStub,
    make: Callable[[], bytes],
    expected: set[grpc.StatusCode],
) -> None:
    """The service's peak hardly moves, decoders keep their bound, and the next image is read."""
    data = make()
    before = running.peak_memory_bytes()
    assert segment(stub, data) in expected
    # A file in memory counts while it is written.
    assert running.peak_memory_bytes() - before < GROWTH + len(data)
    for nursery in children(running.process.pid):
        for decoder in children(nursery):
            assert peak_bytes(decoder) < MEMORY + 300 * MEBIBYTE
    assert segment(stub, bombs.small_png()) is grpc.StatusCode.OK


@pytest.mark.parametrize("typed", [False, True])
def test_a_tensor_that_lies_about_its_shape_is_refused(running: Service, *, typed: bool) -> None:
    """Twelve bytes are no 10^12 values; nothing of that size is ever made."""
    asks = v2.ModelInferRequest(model_name="nuclei")
    tensor = asks.inputs.add(name="image", datatype="UINT8", shape=(64, 100_000, 100_000, 3))
    if typed:
        tensor.contents.uint_contents.extend(range(12))
    else:
        asks.raw_input_contents.append(bytes(12))
    before = running.peak_memory_bytes()
    with (
        grpc.insecure_channel(running.target) as channel,
        pytest.raises(grpc.RpcError, match="values"),
    ):
        v2_rpc.GRPCInferenceServiceStub(channel).ModelInfer(asks, timeout=20)
    assert running.peak_memory_bytes() - before < GROWTH


@pytest.fixture(scope="module")
def registry(
    s3: S3, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    """A registry in a bucket of its own."""
    variables = settings_of(s3.settings, valkey.settings) | {"HISTILL_S3__BUCKET": "bombs"}
    with service("registry", tmp_path_factory.mktemp("registry"), variables) as it:
        it.wait()
        yield it


def upload(registry: Registry, kind: str, name: str, data: bytes) -> tuple[grpc.StatusCode, str]:
    """The status with which a model's or a dataset's only file is answered, and its words."""
    file = model_pb2.ArtifactFile(
        path=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    fields: dict[str, Any] = {"channels": 3, "classes": ["background", "object"], "files": [file]}
    if kind == "model":
        fields |= {
            "model_name": "bomb",
            "role": model_pb2.MODEL_ROLE_TEACHER,
            "mean": [0.5] * 3,
            "std": [0.5] * 3,
        }
        if name.endswith("safetensors"):
            fields["network_json"] = json.dumps({"architecture": "unet", "width": 4, "depth": 2})
        request: Any = registry_pb.UploadModelRequest
        header: Any = registry_pb.ModelHeader(**fields)
    else:
        fields |= {
            "dataset_name": "bomb",
            "label_kind": dataset_pb2.LABEL_KIND_SEMANTIC,
            "splits": {"train": 1, "val": 1},
        }
        request, header = registry_pb.UploadDatasetRequest, registry_pb.DatasetHeader(**fields)

    def parts() -> Iterator[Any]:
        yield request(header=header)
        for start in range(0, len(data), MEBIBYTE):
            chunk = registry_pb.FileChunk(path=name, data=data[start : start + MEBIBYTE])
            yield request(chunk=chunk)

    with grpc.insecure_channel(f"127.0.0.1:{registry.port}") as channel:
        stub = registry_rpc.RegistryServiceStub(channel)
        call = stub.UploadModel if kind == "model" else stub.UploadDataset
        try:
            call(parts(), timeout=60, metadata=(("authorization", f"Bearer {KEY}"),))
        except grpc.RpcError as exc:
            assert isinstance(exc, grpc.Call)  # noqa: PT017 - for its type
            return exc.code(), exc.details() or ""
    return grpc.StatusCode.OK, ""


def safetensors(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def program(*members: tuple[str, bytes], packed: bool = True) -> bytes:
    out = io.BytesIO()
    base = [("m/data.pkl", b"\x80\x02N."), ("m/constants.pkl", b"\x80\x02)."), ("m/code/a.py", b"")]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as made:
        for name, data in dict(base + list(members)).items():
            made.writestr(name, data)
    return out.getvalue()


def lying_program() -> bytes:
    """Code that unpacks to a gigabyte, of which the table of contents says ten bytes."""
    packed = bytearray(program(("m/code/a.py", bytes(GIGABYTE - 12_345))))
    size = struct.pack("<I", GIGABYTE - 12_345)
    while (at := packed.find(size)) >= 0:
        packed[at : at + 4] = struct.pack("<I", 10)
    return bytes(packed)


ZERO_STRIDE = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00"
    b"(J\x40\x42\x0f\x00J\x40\x42\x0f\x00t(K\x00K\x00tNNtR."
)
MODELS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "sizes": (
        "weights.safetensors",
        lambda: safetensors(
            b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}', bytes(4)
        ),
        "bytes for a shape",
    ),
    "offsets": (
        "weights.safetensors",
        lambda: safetensors(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[9000000000,9000000004]}}', bytes(4)
        ),
        "overlaps or gaps",
    ),
    "length": ("weights.safetensors", lambda: safetensors(b"{}", length=1 << 62), "does not fit"),
    "header": (
        "weights.safetensors",
        lambda: safetensors(b"[" + b"[]," * (30 << 20) + b"[]]"),
        "are the most",
    ),
    "zip": ("model.ts", lambda: program(("m/data/0", bytes(GIGABYTE))), "would unpack to"),
    "zip that lies": ("model.ts", lying_program, "is damaged|bytes of code"),
    "zero stride": (
        "model.ts",
        lambda: program(("m/data.pkl", ZERO_STRIDE)),
        "tensors claim 1000000000000 values",
    ),
}


@pytest.mark.parametrize(("name", "make", "words"), MODELS.values(), ids=MODELS)
def test_a_bomb_among_weights_is_refused_within_memory(
    registry: Registry, name: str, make: Callable[[], bytes], words: str
) -> None:
    """Its header is found to lie before anything of the size that it tells is made."""
    data = make()
    before = peak_bytes(registry.process.pid)
    code, said = upload(registry, "model", name, data)
    assert (code, said) == (grpc.StatusCode.INVALID_ARGUMENT, said)
    assert any(each in said for each in words.split("|")), said
    assert peak_bytes(registry.process.pid) - before < GROWTH


def shard(name: str = "train/a.image.png", **fields: Any) -> bytes:
    out = io.BytesIO()
    data = fields.pop("data", b"")
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for field, value in fields.items():
            setattr(info, field, value)
        archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def sparse_map(megabytes: int) -> bytes:
    """A member in GNU's sparse format 1.0 whose list of holes does not end."""
    holes = b"1000000000\n" + b"0\n" * (megabytes * MEBIBYTE // 2)
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "5"}
    return shard(data=holes, pax_headers=headers)


SHARDS: dict[str, Callable[[], bytes]] = {
    "parent": lambda: shard("../train/a.image.png"),
    "absolute": lambda: shard("/etc/passwd"),
    "symlink": lambda: shard(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": lambda: shard(type=tarfile.LNKTYPE, linkname="train/b.image.png"),
    "character device": lambda: shard(type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "block device": lambda: shard(type=tarfile.BLKTYPE),
    "fifo": lambda: shard(type=tarfile.FIFOTYPE),
    "folder": lambda: shard(type=tarfile.DIRTYPE),
    "sparse": lambda: shard(type=tarfile.GNUTYPE_SPARSE),
    "sparse by header": lambda: shard(pax_headers={"GNU.sparse.size": "1000000000000"}),
    "sparse without end": lambda: sparse_map(64),
    "png of 10^10 pixels": lambda: shard(data=bombs.png(100_000, 100_000, b"")),
    "png chunk": lambda: shard(data=bombs.small_png((b"tEXt", bytes(90 * MEBIBYTE)))),
    "backwards": lambda: shard(pax_headers={"size": "-1024"}),
}


@pytest.mark.parametrize("make", SHARDS.values(), ids=SHARDS)
def test_a_shard_that_is_none_is_refused_within_memory(
    registry: Registry, make: Callable[[], bytes]
) -> None:
    """Whatever leads out of a shard or stands for more than it holds is named by its field."""
    data = make()
    before = peak_bytes(registry.process.pid)
    code, said = upload(registry, "dataset", "shard-00000.tar", data)
    assert (code, said) == (grpc.StatusCode.INVALID_ARGUMENT, said)
    assert said.startswith(("files: ", "header.splits: "))
    assert peak_bytes(registry.process.pid) - before < GROWTH
