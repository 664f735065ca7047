"""Real nuclei of two domains as datasets of background, inside and contour."""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from histill.core.catalog import file_of
from histill.core.manifests import DatasetManifest, LabelKind
from histill.distill.examples import class_map

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

DATA = Path(os.environ.get("HISTILL_DATA", Path(__file__).parents[2] / "../shared/data"))
DOMAINS = ("he", "fluo")
CLASSES = ("background", "inside", "contour")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Tile:
    """One image with its labels, both PNG files."""

    domain: str
    image: Path
    label: Path

    @property
    def key(self) -> str:
        """Unique over domains."""
        return f"{self.domain}-{self.image.stem}"

    def pixels(self) -> npt.NDArray[np.uint8]:
        """uint8 [H, W, 3]."""
        with Image.open(self.image) as image:
            return np.asarray(image.convert("RGB"))

    def objects(self) -> npt.NDArray[np.int64]:
        """Object numbers [H, W]."""
        with Image.open(self.label) as label:
            return np.asarray(label).astype(np.int64)

    def classes(self) -> npt.NDArray[np.uint8]:
        """Class map [H, W] of ``CLASSES``."""
        return class_map(self.objects(), _manifest({}))


def tiles(split: str, domains: Sequence[str] = DOMAINS) -> list[Tile]:
    """The tiles of a split, by name."""
    folders = [(domain, DATA / f"nuclei-{domain}" / split) for domain in domains]
    return [
        Tile(domain, image, folder / "labels" / image.name)
        for domain, folder in folders
        for image in sorted((folder / "images").glob("*.png"))
    ]


def labeled_keys(count: int, *, seed: int) -> set[str]:
    """Training tiles of each domain whose labels the students may see."""
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for domain in DOMAINS:
        keys = [tile.key for tile in tiles("train", (domain,))]
        chosen |= set(rng.choice(keys, size=count, replace=False).tolist())
    return chosen


def write_dataset(
    folder: Path,
    domains: Sequence[str],
    *,
    labeled: Collection[str] | None = None,
    classes: Sequence[str] = CLASSES,
) -> DatasetManifest:
    """Writes a shard; training tiles not in ``labeled`` go in without their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {split: tiles(split, domains) for split in ("train", "val")}
    shard = folder / "shard-00000.tar"
    with tarfile.open(shard, "w") as archive:
        for split, members in splits.items():
            for tile in members:
                _add(archive, f"{split}/{tile.key}.image.png", tile.image.read_bytes())
                if split == "val" or labeled is None or tile.key in labeled:
                    _add(archive, f"{split}/{tile.key}.label.png", tile.label.read_bytes())
    manifest = _manifest({split: len(members) for split, members in splits.items()}, classes)
    return manifest.model_copy(update={"files": (file_of(shard),)})


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _manifest(splits: dict[str, int], classes: Sequence[str] = CLASSES) -> DatasetManifest:
    return DatasetManifest(
        name="nuclei",
        version=1,
        classes=tuple(classes),
        channels=3,
        label_kind=LabelKind.INSTANCE,
        splits=splits,
        description="BBBC038v1, CC0",
        create_time=EPOCH,
        files=(),
    )
