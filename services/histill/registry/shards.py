"""Looks through a dataset's shards: only plain files of the right names, pairs of PNGs.

A training image may come without a label.
"""

from __future__ import annotations

import re
import struct
import tarfile
from collections import Counter
from typing import TYPE_CHECKING, Self

from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_MEMBER = re.compile(r"(train|val|test)/([A-Za-z0-9_-]{1,120})\.(image|label)\.png")
# Pixels of PNG by colour type and bits, in Pillow's words, with which the trainer reads them.
_MODES = {
    (0, 1): "1", (0, 2): "L", (0, 4): "L", (0, 8): "L", (0, 16): "I;16",
    (2, 8): "RGB", (2, 16): "RGB", (3, 1): "P", (3, 2): "P", (3, 4): "P", (3, 8): "P",
    (4, 8): "LA", (4, 16): "LA", (6, 8): "RGBA", (6, 16): "RGBA",
}  # fmt: skip
_IMAGE_MODES = {1: {"L", "1"}, 3: {"RGB"}, 4: {"RGBA"}}
_LABEL_MODES = frozenset({"L", "P", "1", "I;16"})
# Lists of holes, and headers for all that follows, which may come again and again.
_REFUSED = {tarfile.GNUTYPE_SPARSE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
_PNG = struct.Struct(">8sI4sIIBB")
_BEGINNING = (b"\x89PNG\r\n\x1a\n", 13, b"IHDR")
_UNLABELED_SPLIT = "train"  # teachers can speak about images without labels
_MAX_EXTENSION_BYTES = 1 << 16
# A name and two sizes are held of each.
MAX_IMAGES = 500_000
_MOST_OF_A_NAME = 200


class _Header(tarfile.TarInfo):
    """Refuses headers with which a file makes its reader hold much, or go back."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        info = super().frombuf(buf, encoding, errors)
        if info.size < 0 or info.type in _REFUSED:
            raise _only_plain_files(info.name)
        if not info.isreg() and info.size > _MAX_EXTENSION_BYTES:
            raise _wrong(f"{_named(info)} has {info.size} bytes of header")
        return info

    def _proc_gnusparse_10(self, *_: object) -> None:
        """Would read a list of holes, of any length."""
        raise _only_plain_files(self.name)


def check_shards(
    shards: Sequence[Path], *, splits: dict[str, int], channels: int, max_pixels: int
) -> None:
    """Returns when the shards hold what the header says.

    Of an image no more is read than the header of its PNG, and no pixel is decoded.

    Args:
        shards: Tar files.
        splits: Images in each split.
        channels: Of each image.
        max_pixels: Of one image.

    Raises:
        InvalidArgumentError: A member has another name, is no plain file, cannot be
            read, is too large, lacks its partner, or the splits differ.
    """
    if (most := sum(splits.values())) > MAX_IMAGES:
        raise InvalidArgumentError.of(
            "header.splits", f"say {most} images; {MAX_IMAGES} are the most, so make several sets"
        )
    sizes: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for shard in shards:
        for member, beginning in _members(shard):
            split, name, kind = _place(member)
            where = f"{shard.name}/{member.name}"
            size = _image_size(where, beginning, kind, channels, max_pixels)
            pair = sizes.setdefault((split, name), {})
            if kind in pair:
                raise _wrong(f"{member.name} comes twice")
            if len(sizes) > most:
                raise InvalidArgumentError.of(
                    "header.splits", f"says {splits}; the shards hold more"
                )
            pair[kind] = size
    for (split, name), pair in sizes.items():
        if "image" not in pair or ("label" not in pair and split != _UNLABELED_SPLIT):
            raise _wrong(f"{split}/{name} lacks its image or its label")
        if pair["image"] != pair.get("label", pair["image"]):
            image, label = pair["image"], pair["label"]
            raise _wrong(f"{split}/{name} has an image of {image} and a label of {label} pixels")
    counted = Counter(split for split, _ in sizes)
    if dict(counted) != splits:
        raise InvalidArgumentError.of(
            "header.splits", f"says {splits}; the shards hold {dict(counted)}"
        )


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Members of a tar file and their first bytes; only one is held at a time."""
    try:
        with tarfile.open(shard, "r:", tarinfo=_Header) as archive:
            offset = -1
            while (member := archive.next()) is not None:
                if archive.offset <= offset:
                    raise _only_plain_files(member.name)
                offset = archive.offset
                # Kept by tarfile for those who ask again.
                archive.members.clear()  # type: ignore[attr-defined]
                file = archive.extractfile(member) if _is_plain(member) else None
                if file is None:
                    raise _only_plain_files(member.name)
                yield member, file.read(_PNG.size)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as exc:
        raise _wrong(f"{shard.name} is no tar file: {exc}") from exc
    except RecursionError as exc:
        raise _wrong(f"{shard.name} is no tar file: headers of headers") from exc


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isreg() and not member.issparse() and member.size >= 0


def _place(member: tarfile.TarInfo) -> tuple[str, str, str]:
    match = _MEMBER.fullmatch(member.name)
    if match is None:
        raise _only_plain_files(member.name)
    return match[1], match[2], match[3]


def _image_size(
    where: str, beginning: bytes, kind: str, channels: int, max_pixels: int
) -> tuple[int, int]:
    """Width and height, by the header of a PNG."""
    if len(beginning) < _PNG.size:
        raise _wrong(f"{where} is no PNG")
    *start, width, height, bits, colour = _PNG.unpack(beginning)
    if tuple(start) != _BEGINNING or (colour, bits) not in _MODES or not (width and height):
        raise _wrong(f"{where} is no PNG")
    if width * height > max_pixels:
        raise _wrong(f"{where} has {width}x{height} pixels; at most {max_pixels} are taken")
    mode = _MODES[colour, bits]
    allowed = _IMAGE_MODES.get(channels, set()) if kind == "image" else _LABEL_MODES
    if mode not in allowed:
        raise _wrong(f"{where} is of mode {mode}; {' or '.join(sorted(allowed))} is needed")
    return width, height


def _named(member: tarfile.TarInfo) -> str:
    return repr(member.name[:_MOST_OF_A_NAME])


def _only_plain_files(name: str) -> InvalidArgumentError:
    return _wrong(
        f"a shard holds {name[:_MOST_OF_A_NAME]!r}; only plain files "
        "train|val|test/NAME.image|label.png are taken"
    )


def _wrong(words: str) -> InvalidArgumentError:
    return InvalidArgumentError.of("files", words)
