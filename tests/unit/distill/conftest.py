"""Small made-up data for the trainer's tests."""

from __future__ import annotations

import io
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

import manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from histill.core.manifests import DatasetManifest, ModelManifest


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny tensors are slower on several threads, far slower on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture
def png() -> Callable[[npt.NDArray[Any]], bytes]:
    """Encodes an array as PNG."""

    def encode(array: npt.NDArray[Any]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return buffer.getvalue()

    return encode


@pytest.fixture
def dataset_manifest() -> Callable[..., DatasetManifest]:
    """Makes a dataset's manifest; one-channel, two-class, semantic unless told."""
    return manifests.dataset


@pytest.fixture
def model_manifest() -> Callable[..., ModelManifest]:
    """Makes a teacher's manifest that fits ``dataset_manifest``."""
    return manifests.model


@pytest.fixture
def write_shard() -> Callable[[Path, Mapping[str, bytes]], None]:
    """Writes members into a tar file."""

    def write(path: Path, members: Mapping[str, bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    return write


@pytest.fixture
def blob() -> Callable[..., tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]:
    """Draws a bright disc on noise: image uint8 [S, S, 1] and class map uint8 [S, S]."""

    def draw(seed: int = 0, size: int = 32) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        rng = np.random.default_rng(seed)
        row, column = rng.uniform(size * 0.3, size * 0.7, 2)
        rows, columns = np.mgrid[:size, :size]
        target = (np.hypot(rows - row, columns - column) < size * 0.22).astype(np.uint8)
        image = rng.normal(70, 25, (size, size)) + 90 * target
        return image.clip(0, 255).astype(np.uint8)[..., None], target

    return draw
