"""Looks through a dataset's shards: only plain files of the right names, pairs of PNGs.

A training image may come without a label.
"""

from __future__ import annotations

import re
import tarfile
from collections import Counter
from typing import TYPE_CHECKING, Self

from PIL import Image, UnidentifiedImageError

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MEMBER = re.compile(r"(train|val|test)/([A-Za-z0-9_-]{1,120})\.(image|label)\.png")
_MODES = {1: {"L", "1"}, 3: {"RGB"}, 4: {"RGBA", "CMYK"}}
_LABEL_MODES = frozenset({"L", "P", "1", "I", "I;16", "I;16B"})
_UNLABELED_SPLIT = "train"  # teachers can speak about images without labels
_MAX_EXTENSION_BYTES = 1 << 16


class _Header(tarfile.TarInfo):
    """Refuses long extension headers, which tarfile would read into memory whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if not info.isreg() and info.size > _MAX_EXTENSION_BYTES:
            raise InvalidArgumentError.of("files", f"{info.name!r} has {info.size} bytes of header")
        return info


def check_shards(
    shards: Sequence[Path], *, splits: dict[str, int], channels: int, max_pixels: int
) -> None:
    """Returns when the shards hold what the header says.

    Args:
        shards: Tar files.
        splits: Images in each split.
        channels: Of each image.
        max_pixels: Of one image.

    Raises:
        InvalidArgumentError: A member has another name, is no plain file, cannot be
            read, is too large, lacks its partner, or the splits differ.
    """
    sizes: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for shard in shards:
        try:
            with tarfile.open(shard, "r:", tarinfo=_Header) as archive:
                for member in archive:
                    split, name, kind = _named(shard, member)
                    size = _image_size(shard, archive, member, kind, channels, max_pixels)
                    pair = sizes.setdefault((split, name), {})
                    if kind in pair:
                        raise InvalidArgumentError.of("files", f"{member.name} comes twice")
                    pair[kind] = size
        except tarfile.TarError as exc:
            raise InvalidArgumentError.of("files", f"{shard.name} is no tar file: {exc}") from exc
    for (split, name), pair in sizes.items():
        if "image" not in pair or ("label" not in pair and split != _UNLABELED_SPLIT):
            raise InvalidArgumentError.of("files", f"{split}/{name} lacks its image or its label")
        if pair["image"] != pair.get("label", pair["image"]):
            image, label = pair["image"], pair["label"]
            words = f"{split}/{name} has an image of {image} and a label of {label} pixels"
            raise InvalidArgumentError.of("files", words)
    counted = Counter(split for split, _ in sizes)
    if dict(counted) != splits:
        raise InvalidArgumentError.of(
            "header.splits", f"says {splits}; the shards hold {dict(counted)}"
        )


def _named(shard: Path, member: tarfile.TarInfo) -> tuple[str, str, str]:
    match = _MEMBER.fullmatch(member.name)
    if match is None or not member.isreg() or member.issparse():
        raise InvalidArgumentError.of(
            "files",
            f"{shard.name} holds {member.name!r}; only plain files "
            "train|val|test/NAME.image|label.png are taken",
        )
    return match[1], match[2], match[3]


def _image_size(
    shard: Path,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    kind: str,
    channels: int,
    max_pixels: int,
) -> tuple[int, int]:
    where = f"{shard.name}/{member.name}"
    file = archive.extractfile(member)
    if file is None:
        raise InvalidArgumentError.of("files", f"{where} cannot be read")
    try:
        # The header only: no pixel of a foreign file is decoded here.
        with Image.open(file, formats=["PNG"]) as image:
            size, mode = image.size, image.mode
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as exc:
        raise InvalidArgumentError.of("files", f"{where} is no PNG: {exc}") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise InvalidArgumentError.of("files", f"{where} has too many pixels: {exc}") from exc
    if size[0] * size[1] > max_pixels:
        raise InvalidArgumentError.of(
            "files", f"{where} has {size[0]}x{size[1]} pixels; at most {max_pixels} are taken"
        )
    allowed = _MODES.get(channels, set()) if kind == "image" else _LABEL_MODES
    if mode not in allowed:
        raise InvalidArgumentError.of(
            "files", f"{where} is of mode {mode}; {' or '.join(sorted(allowed))} is needed"
        )
    return size
