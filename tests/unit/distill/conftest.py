"""Small made-up data for the trainer's tests."""

from __future__ import annotations

import io
import tarfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from histill.core.manifests import (
    DatasetManifest,
    LabelKind,
    ModelManifest,
    ModelRole,
    Normalization,
)
from histill.core.specs import NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


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

    def make(**changes: Any) -> DatasetManifest:
        fields: dict[str, Any] = {
            "name": "blobs",
            "version": 1,
            "classes": ("background", "blob"),
            "channels": 1,
            "label_kind": LabelKind.SEMANTIC,
            "splits": {"train": 4, "val": 2},
            "create_time": _NOW,
            "files": (),
        }
        return DatasetManifest(**(fields | changes))

    return make


@pytest.fixture
def model_manifest() -> Callable[..., ModelManifest]:
    """Makes a teacher's manifest that fits ``dataset_manifest``."""

    def make(**changes: Any) -> ModelManifest:
        fields: dict[str, Any] = {
            "name": "teacher",
            "version": 1,
            "role": ModelRole.TEACHER,
            "network": NetworkSpec(width=4, depth=2),
            "channels": 1,
            "classes": ("background", "blob"),
            "normalization": Normalization(mean=(0.5,), std=(0.25,)),
            "create_time": _NOW,
            "files": (),
        }
        return ModelManifest(**(fields | changes))

    return make


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
