"""What is fuzzed: everything of ours that reads bytes or text of strangers.

Only ``HistillError`` may leave a reader; whatever else does is a finding.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError
from pycocotools import mask as coco

from histill.api.inference.v2 import grpc_service_pb2 as v2
from histill.core import messages, yaml_text
from histill.core.errors import HistillError, InvalidArgumentError
from histill.core.names import parse_reference
from histill.core.torchscript import check_program
from histill.inference import parameters, tensors
from histill.ml import decoding, dicom, masks, slides
from histill.ml.decoders import violations
from histill.ml.images import Selection, Size, Slide
from histill.ml.remote import RemoteFile
from histill.registry.shards import check_shards
from histill.registry.weights import count_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

import seeds

MAX_PIXELS = 100_000


@dataclass(frozen=True)
class Harness:
    """One reader.

    Attributes:
        read: Gives it some bytes; raises what is a finding.
        seeds: Files that it reads well, or refuses for one reason each.
    """

    read: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]


def _image(data: bytes) -> None:
    # OpenSlide's GLib ends its process where memory is refused, as decoders may be ended; here it
    # would end the search.
    slides.open_slide = _no_slide
    with contextlib.suppress(HistillError):
        found = decoding.probe(io.BytesIO(data), max_pixels=MAX_PIXELS)
        if isinstance(found, Slide):
            height, width = min(found.size.height, 64), min(found.size.width, 64)
            found.read(0, 0, height, width)
        else:
            decoding.decode(io.BytesIO(data), max_pixels=MAX_PIXELS)


def _no_slide(*_: object, **__: object) -> None:
    """Stands for OpenSlide, which finds no slide."""


def _dicom(data: bytes) -> None:
    with contextlib.suppress(HistillError):
        image = decoding.decode(io.BytesIO(data), Selection(frame=1), max_pixels=MAX_PIXELS)
        if image.dicom is not None:
            dicom.frame_pixels(image.dicom, dicom.frames(image.dicom) - 1)
            masks.check(masks.Format.DICOM_SEG, image)


def _file(check: Callable[[Path], object], data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as at:  # noqa: S108, PTH112
        path = Path(at) / "file"
        path.write_bytes(data)
        with contextlib.suppress(HistillError):
            check(path)


def _shards(path: Path) -> None:
    check_shards([path], splits={"train": 1, "val": 1}, channels=3, max_pixels=MAX_PIXELS)


def _yaml(data: bytes) -> None:
    try:
        loaded = yaml_text.load(data.decode(errors="replace"))
    except ValueError:  # as it is documented
        return
    if isinstance(loaded, dict):
        with contextlib.suppress(HistillError):
            messages.spec_of(messages.job_from_yaml(loaded))


def _mask(data: bytes) -> None:
    """Masks of any content are written, and run lengths say the same pixels again."""
    if len(data) < 3:
        return
    width = 1 + data[0] % 64
    rows = (len(data) - 1) // width
    if not rows:
        return
    mask = np.frombuffer(data[1 : 1 + rows * width], np.uint8).reshape(rows, width) % 3
    for each in json.loads(masks.rle(mask, ("background", "a", "b"))):
        runs: Any = each["segmentation"] | {"counts": each["segmentation"]["counts"].encode()}
        if not np.array_equal(coco.decode(runs), mask == each["category_id"]):
            raise AssertionError("run lengths of another mask")
    decoded = decoding.decode(io.BytesIO(masks.png(mask)))
    if decoded.size != Size(rows, width):
        raise AssertionError("a PNG of another size")


def _tensors(data: bytes) -> None:
    try:
        request = v2.ModelInferRequest.FromString(data)
    except DecodeError:  # gRPC refuses it before we see it
        return
    for read in (
        tensors.image_batch,
        tensors.wanted,
        parameters.urgent,
        parameters.timeout_s,
        lambda asks: parameters.flag(asks, "x"),
    ):
        with contextlib.suppress(HistillError):
            read(request)


def _reference(data: bytes) -> None:
    text = data.decode(errors="replace")
    for aliases in (False, True):
        with contextlib.suppress(HistillError):
            found = parse_reference(text, field="reference", aliases=aliases)
            if not text.startswith(found.name):
                raise AssertionError("another name")


class _Answering:
    """A decoder that was taken over, and answers whatever it likes."""

    usable = True
    once = False
    files = 0

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def ask(self, _: object, *__: int) -> tuple[Any, None]:
        if "invalid" in self._answer:
            raise InvalidArgumentError(*violations(self._answer["invalid"]))
        return self._answer, None

    def kill(self) -> None:
        self.usable = False


class _Pool:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def take(self) -> Any:
        return _Answering(self._answer)

    def put(self, decoder: Any) -> None:
        del decoder


def _answer(data: bytes) -> None:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):  # as the wire refuses it
        return
    if not isinstance(answer, dict):
        return
    pool: Any = _Pool(answer)
    file = RemoteFile(
        pool,
        io.BytesIO(b"x"),
        Selection(),
        max_pixels=MAX_PIXELS,
        max_slide_pixels=MAX_PIXELS,
    )
    with contextlib.closing(file), contextlib.suppress(HistillError):
        file.open()
        file.decode()


HARNESSES = {
    "image": Harness(_image, seeds.images),
    "dicom": Harness(_dicom, seeds.dicoms),
    "safetensors": Harness(partial(_file, partial(count_parameters, field="f")), seeds.weights),
    "torchscript": Harness(partial(_file, partial(check_program, field="f")), seeds.programs),
    "shard": Harness(partial(_file, _shards), seeds.shards),
    "yaml": Harness(_yaml, seeds.jobs),
    "mask": Harness(_mask, seeds.masks),
    "tensors": Harness(_tensors, seeds.requests),
    "reference": Harness(_reference, seeds.references),
    "answer": Harness(_answer, seeds.answers),
}
