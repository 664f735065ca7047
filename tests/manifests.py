"""Manifests of a small teacher and the dataset that it fits, for tests of every tier."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from histill.core.manifests import (
    DatasetManifest,
    LabelKind,
    ModelManifest,
    ModelRole,
    Normalization,
)
from histill.core.specs import NetworkSpec

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def dataset(**changes: Any) -> DatasetManifest:
    """One channel, two classes, semantic unless told."""
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


def model(**changes: Any) -> ModelManifest:
    """A teacher that fits ``dataset()`` unless told."""
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


def classifier(**changes: Any) -> ModelManifest:
    """A LeNet-5 of ten classes."""
    fields: dict[str, Any] = {
        "network": NetworkSpec(architecture="lenet5", width=6),
        "task": "classification",
        "classes": tuple(f"digit-{digit}" for digit in range(10)),
        "image_size": 32,
    }
    return model(**(fields | changes))
