"""Generated samples and the images they are compared with, as files."""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from histill.cli.audit_examples import read_pixels
from histill.client.packing import IMAGE_SUFFIXES
from histill.core.errors import CorruptArtifactError, InvalidArgumentError
from histill.ml.resemblance import LEAST_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from histill.ml.images import Pixels

KINDS = ("hard", "simple")
_RANK = 4
_DAMAGE = (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class FolderImages:
    """Images that are read anew whenever they are gone through: never all in memory.

    Attributes:
        paths: The files.
        channels: That every image is made to have.
        option: Where the folder was given, for errors.
    """

    paths: list[Path]
    channels: int
    option: str

    def __iter__(self) -> Iterator[Pixels]:
        for path in self.paths:
            yield read_pixels(path, self.channels, option=self.option)


def find_images(folder: Path, *, option: str) -> list[Path]:
    """Image files in a folder and the folders in it, but for those called ``labels``.

    Raises:
        InvalidArgumentError: There are fewer than three.
    """
    if not folder.is_dir():
        raise InvalidArgumentError.of(option, f"{folder} is not a folder")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and "labels" not in path.relative_to(folder).parts[:-1]
    )
    if len(found) < LEAST_IMAGES:
        raise InvalidArgumentError.of(
            option,
            f"{folder} holds {len(found)} of the images it needs at least {LEAST_IMAGES} of: "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}",
        )
    return found


def load_samples(archive: bytes, *, job: str) -> dict[str, Pixels]:
    """The samples of a job by kind, uint8 [N, H, W, C] each; kinds without any are left out.

    Raises:
        CorruptArtifactError: The archive is not what a job writes.
    """
    found: dict[str, Pixels] = {}
    try:
        with np.load(io.BytesIO(archive), allow_pickle=False) as arrays:
            for kind in KINDS:
                if kind in arrays and len(arrays[kind]):
                    found[kind] = arrays[kind]
    except _DAMAGE as exc:
        raise CorruptArtifactError(f"the samples of {job} cannot be read: {exc}") from exc
    shapes = {array.shape[1:] for array in found.values()}
    wrong = any(array.ndim != _RANK or array.dtype != np.uint8 for array in found.values())
    if wrong or len(shapes) != 1:
        raise CorruptArtifactError(f"the samples of {job} are no images of one size")
    return found
