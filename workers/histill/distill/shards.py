"""Reads a dataset's tar shards into pairs of PNG bytes; nothing is unpacked to disk."""

from __future__ import annotations

import re
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.distill.reasons import dataset_invalid

if TYPE_CHECKING:
    from pathlib import Path

_MEMBER = re.compile(r"(?:\./)?([^/]+)/(.+)\.(image|label)\.png")
_LAYOUT = "A shard holds {split}/{id}.image.png and {split}/{id}.label.png."


@dataclass
class Pair:
    """An encoded image with its encoded label, either of which may be missing."""

    image: bytes | None = None
    label: bytes | None = None


def read_shards(folder: Path) -> dict[str, dict[str, Pair]]:
    """Pairs by split and id, ids in sorted order.

    Members that are neither image nor label are left alone.

    Raises:
        WorkFailedError: DATASET_INVALID; there is no shard, one cannot be read, a
            member comes twice, or a label has no image.
    """
    paths = sorted(folder.glob("shard-*.tar"))
    if not paths:
        raise dataset_invalid("the dataset has no shards", hint="Upload the dataset again.")
    splits: dict[str, dict[str, Pair]] = {}
    for path in paths:
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    match = _MEMBER.fullmatch(member.name)
                    file = tar.extractfile(member) if match else None
                    if match is None or file is None:
                        continue
                    split, key, kind = match.groups()
                    pair = splits.setdefault(split, {}).setdefault(key, Pair())
                    if getattr(pair, kind) is not None:
                        raise dataset_invalid(f"{member.name} is there twice", hint=_LAYOUT)
                    setattr(pair, kind, file.read())
        except tarfile.TarError as exc:
            raise dataset_invalid(
                f"{path.name} is no tar file: {exc}", hint="Upload the dataset again."
            ) from exc
    for split, pairs in splits.items():
        for key, pair in pairs.items():
            if pair.image is None:
                raise dataset_invalid(f"{split}/{key} has a label and no image", hint=_LAYOUT)
    return {split: dict(sorted(pairs.items())) for split, pairs in splits.items()}
