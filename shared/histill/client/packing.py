"""A folder of images and labels as tar shards."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from histill.api.registry.v1 import dataset_pb2
from histill.core.errors import InvalidArgumentError, ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHARD_BYTES = 64 << 20
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm"})
LABEL_SUFFIXES = frozenset({".png", ".tif", ".tiff"})
_EVERY_NTH_IS_VAL = 5
_CHANNELS = (1, 3)
_UINT16_MAX = 65535
_OBJECT_CLASSES = 2  # background and object: what numbered objects become


@dataclass(frozen=True)
class Packed:
    """What a folder became.

    Attributes:
        shards: Tar files, each a little over ``SHARD_BYTES`` at most.
        splits: Images in each split.
        unlabeled: Training images without a label.
        label_kind: Semantic when every label value is a class index, else instance.
    """

    shards: list[Path]
    splits: dict[str, int]
    unlabeled: int
    label_kind: dataset_pb2.LabelKind.ValueType


@dataclass(frozen=True)
class _Pair:
    split: str
    image: Path
    label: Path | None


def pack(
    folder: Path,
    out: Path,
    *,
    classes: int,
    channels: int,
    label_kind: dataset_pb2.LabelKind.ValueType = dataset_pb2.LABEL_KIND_UNSPECIFIED,
) -> Packed:
    """Writes shards of ``{split}/{number}.image.png`` and ``{split}/{number}.label.png``.

    Nothing but pixels leaves this machine: names of files, headers and metadata do not.
    Training images may come without a label. What is burnt into pixels stays there.

    Args:
        folder: See ``Datasets.push``.
        out: Folder for the shards.
        classes: Number of classes, the background included.
        channels: 1 or 3.
        label_kind: What the label values mean; unspecified finds it out, and refuses
            what may be either.

    Raises:
        InvalidArgumentError: The folder or one of its files is not as it must be.
    """
    if channels not in _CHANNELS:
        raise InvalidArgumentError.of("channels", f"{channels} channels cannot be packed; 1 or 3")
    pairs = list(_pairs(folder))
    shards: list[Path] = []
    splits: dict[str, int] = {"train": 0, "val": 0}
    top, top_name = 0, ""
    archive: tarfile.TarFile | None = None
    try:
        for index, pair in enumerate(pairs):
            image, label, highest = _read(pair, channels)
            if archive is None or archive.offset > SHARD_BYTES:
                if archive is not None:
                    archive.close()
                shards.append(out / f"shard-{len(shards):05d}.tar")
                archive = tarfile.open(shards[-1], "w")  # noqa: SIM115 - closed below
            # A number, and not the file's own name, which may be a patient's.
            stem = f"{pair.split}/{index:05d}"
            _add(archive, f"{stem}.image.png", image)
            if label is not None and pair.label is not None:
                _add(archive, f"{stem}.label.png", label)
                if highest > top:
                    top, top_name = highest, pair.label.name
            splits[pair.split] += 1
    finally:
        if archive is not None:
            archive.close()
    for split, count in splits.items():
        if not count:
            raise InvalidArgumentError.of("folder", f"{folder} gives no image to the split {split}")
    unlabeled = sum(pair.label is None for pair in pairs)
    return Packed(shards, splits, unlabeled, label_kind or _kind(top, top_name, classes))


def _kind(top: int, name: str, classes: int) -> dataset_pb2.LabelKind.ValueType:
    """What label values mean, where that is beyond doubt."""
    if top == 0:
        raise InvalidArgumentError.of("folder", "every label is empty: all of them are background")
    if top < classes:
        return dataset_pb2.LABEL_KIND_SEMANTIC
    if classes > _OBJECT_CLASSES:
        raise InvalidArgumentError.of(
            "labels",
            f"{name} holds the value {top}, which is none of the {classes} classes; correct it, "
            "or say --labels instance if values number objects",
        )
    return dataset_pb2.LABEL_KIND_INSTANCE


def val_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Image and label files that ``pack`` puts into the split ``val``."""
    return [
        (pair.image, pair.label)
        for pair in _pairs(folder)
        if pair.split == "val" and pair.label is not None
    ]


def count_unlabeled(folder: Path) -> int:
    """Training images of a folder that have no label."""
    return sum(pair.label is None for pair in _pairs(folder))


def _pairs(folder: Path) -> Iterator[_Pair]:
    if (folder / "images").is_dir():
        # Results are measured on labels: val is every fifth of the images that have one.
        pairs, labeled = _matched(folder), 0
        if all(label is None for _, label in pairs):
            raise InvalidArgumentError.of(
                "folder", f"{folder}/labels holds no label; some are needed to measure results"
            )
        for image, label in pairs:
            held_out = label is not None and labeled % _EVERY_NTH_IS_VAL == 0
            labeled += label is not None
            yield _Pair("val" if held_out else "train", image, label)
        return
    for split in ("train", "val"):
        if not (folder / split / "images").is_dir():
            raise InvalidArgumentError.of(
                "folder",
                f"{folder} holds neither images/ and labels/ nor these two in train/ and in val/",
            )
        pairs = _matched(folder / split)
        missing = [image.name for image, label in pairs if label is None]
        if missing and split == "val":
            raise InvalidArgumentError.of(
                "folder",
                f"{folder}/val/labels lacks a label for {', '.join(missing[:3])}; only training "
                "images may come without",
            )
        for image, label in pairs:
            yield _Pair(split, image, label)


def _matched(folder: Path) -> list[tuple[Path, Path | None]]:
    images = sorted(
        path for path in (folder / "images").iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not images:
        raise InvalidArgumentError.of("folder", f"{folder}/images holds no image")
    labels = {
        path.stem: path
        for path in sorted((folder / "labels").glob("*"))
        if path.suffix.lower() in LABEL_SUFFIXES
    }
    # A label under another name than its image's must not become an image without one.
    strays = sorted(set(labels) - {path.stem for path in images})
    if strays:
        raise InvalidArgumentError.of(
            "folder",
            f"{folder}/labels/{labels[strays[0]].name} belongs to no image; a label has the "
            "name of its image",
        )
    return [(path, labels.get(path.stem)) for path in images]


def _read(pair: _Pair, channels: int) -> tuple[bytes, bytes | None, int]:
    """Image and label as PNG, and the label's highest value."""
    from histill.ml.decoding import decode
    from histill.ml.images import fit_channels

    try:
        # As the inference service does it, so that training sees what serving will.
        with pair.image.open("rb") as file:
            pixels = fit_channels(decode(file).pixels, channels)
    except (InvalidArgumentError, ResourceExhaustedError) as exc:
        raise InvalidArgumentError.of("folder", f"{pair.image}: {exc}") from exc
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    if pair.label is None:
        return _png(image), None, 0
    label, highest = _read_label(pair.label, image)
    return _png(image), label, highest


def _read_label(path: Path, image: Image.Image) -> tuple[bytes, int]:
    try:
        with Image.open(path) as label:
            values = np.asarray(label)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as exc:
        raise InvalidArgumentError.of("folder", f"{path} cannot be read: {exc}") from exc
    if values.ndim != 2 or values.dtype.kind not in "iub":  # noqa: PLR2004 - rows and columns
        raise InvalidArgumentError.of(
            "folder", f"label {path.name} must be one channel of whole numbers"
        )
    if values.shape != (image.height, image.width):
        raise InvalidArgumentError.of(
            "folder",
            f"label {path.name} is {values.shape[1]}x{values.shape[0]}, "
            f"its image {image.width}x{image.height}",
        )
    highest = int(values.max())
    if highest > _UINT16_MAX or int(values.min()) < 0:
        raise InvalidArgumentError.of("folder", f"label {path.name} leaves 0 to 65535")
    return _png(Image.fromarray(values.astype(np.uint16))), highest


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
