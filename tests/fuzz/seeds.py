"""Small inputs from which fuzzing starts, made on the spot."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit

import bombs
from dicoms import dicom, slide, volume
from histill.api.inference.v2 import grpc_service_pb2 as v2
from slide_files import pyramid

if TYPE_CHECKING:
    from collections.abc import Iterator

_RGB = np.arange(16 * 20 * 3, dtype=np.uint32).reshape(16, 20, 3).astype(np.uint8)
_DEEP = np.arange(16 * 20, dtype=np.uint16).reshape(16, 20) * 11
_PROGRAM = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00(K\x02K\x03t(K\x03K\x01t\x89NtRq\x01h\x01."
)


def images() -> Iterator[bytes]:
    """One of each kind that is read."""
    for form in ("PNG", "JPEG", "TIFF"):
        out = io.BytesIO()
        Image.fromarray(_RGB).save(out, form)
        yield out.getvalue()
    for options in ({}, {"compression": "zlib"}, {"tile": (16, 16)}):
        out = io.BytesIO()
        tifffile.imwrite(out, _DEEP, **options)
        yield out.getvalue()
    yield bombs.small_png((b"zTXt", b"k\0\0" + zlib.compress(b"words")), (b"tEXt", b"k\0v"))
    yield pyramid([_RGB], description="Aperio Image Library v11\n|AppMag = 20|MPP = 0.5")


def dicoms() -> Iterator[bytes]:
    """Grey, colour, stack, slide and a compressed frame."""
    yield dicom(_DEEP)
    yield dicom(_RGB, kind="RGB")
    yield volume(np.stack([_DEEP] * 2), WindowCenter=100, WindowWidth=50)
    yield slide(_RGB, tile=16)
    yield slide(_RGB, tile=16, syntax=JPEGBaseline8Bit)
    yield bombs.framed_dicom(bombs.jpeg(8, 8), 8, 8)


def weights() -> Iterator[bytes]:
    """Two tensors, and one that lies."""
    for end in (8, 12):
        header = {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "U8", "shape": [2, 2], "data_offsets": [8, end]},
        }
        text = json.dumps(header).encode()
        yield struct.pack("<Q", len(text)) + text + bytes(12)


def programs() -> Iterator[bytes]:
    """A program's form, packed and not."""
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", packing) as made:
            made.writestr("m/data.pkl", _PROGRAM)
            made.writestr("m/constants.pkl", b"\x80\x02).")
            made.writestr("m/code/a.py", b"def forward(self, x):\n  return torch.add(x, x)\n")
        yield out.getvalue()


def shards() -> Iterator[bytes]:
    """A good shard in each of tar's formats, and one with a link."""
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            for split in ("train", "val"):
                name = f"{split}/{'a' * (60 if form == tarfile.USTAR_FORMAT else 110)}.image.png"
                info = tarfile.TarInfo(name)
                data = bombs.small_png()
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("train/l.image.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/x"
            archive.addfile(link)
        yield out.getvalue()[: 8 * 1024]


def jobs() -> Iterator[bytes]:
    """The examples, and aliases that stand for much."""
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.yaml")):
        yield path.read_bytes()
    yield b"a: &a [x, x]\nb: &b [*a, *a]\nsupervised: {dataset: *b}\n"
    yield b"supervised: {<<: &m {dataset: d}, output_model: m, training: {steps: 10}}\n"


def masks() -> Iterator[bytes]:
    """A few rows."""
    yield bytes([5, *range(60)])
    yield bytes([63, *([0, 1] * 64)])


def requests() -> Iterator[bytes]:
    """A request of the Open Inference Protocol with raw contents, and one with typed ones."""
    for raw in (True, False):
        asks = v2.ModelInferRequest(model_name="nuclei", id="1")
        tensor = asks.inputs.add(name="image", datatype="UINT8", shape=(1, 2, 2, 3))
        if raw:
            asks.raw_input_contents.append(bytes(12))
        else:
            tensor.contents.uint_contents.extend(range(12))
        asks.outputs.add(name="mask")
        asks.parameters["timeout"].int64_param = 1000
        asks.parameters["x"].bool_param = True
        yield asks.SerializeToString()


def references() -> Iterator[bytes]:
    """Of each form."""
    yield from (b"nuclei", b"nuclei@3", b"nuclei@production", b"a-b@00", b"Nuclei@", b"@1")


def answers() -> Iterator[bytes]:
    """What decoders say."""
    yield b'{"height": 3, "width": 4}'
    yield (
        b'{"height": 3, "width": 4, "channels": 3, "spacing": [0.1, 0.2], "source": "slide", '
        b'"slide": true, "frames": 1, "no_seg": [["format", "no"]]}'
    )
    yield b'{"invalid": [["image", "is damaged"]]}'
