"""What a stored manifest says, and what an older one is taken to say."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

import manifests
from histill.core.manifests import ONNX, ArtifactFile, ModelManifest

FILE = ArtifactFile(path=ONNX, size=1, sha256="0" * 64)


def test_a_manifest_from_before_tasks_is_of_segmentation() -> None:
    """Without the fields that came later a model segments, and nothing more is known of it."""
    stored = json.loads(manifests.model(files=(FILE,)).model_dump_json())
    for later in ("task", "image_size", "class_shares", "privacy"):
        del stored[later]
    read = ModelManifest.model_validate_json(json.dumps(stored))
    assert (read.task, read.image_size, read.class_shares, read.privacy) == (
        "segmentation", 0, {}, None
    )  # fmt: skip
    assert read.servable


def test_what_a_later_version_says_is_passed_over() -> None:
    """In an upgrade a replica of before reads what one of after has published."""
    stored = json.loads(manifests.model(files=(FILE,)).model_dump_json())
    read = ModelManifest.model_validate_json(json.dumps(stored | {"later": 1}))
    assert read == manifests.model(files=(FILE,), create_time=read.create_time)


def test_what_is_told_for_data_free_jobs_is_kept() -> None:
    """Task, size, shares and privacy survive the store."""
    made = manifests.classifier(privacy={"epsilon": 2.5, "delta": 1e-5})
    read = ModelManifest.model_validate_json(made.model_dump_json())
    assert read == made
    assert read.privacy is not None
    assert (read.privacy.epsilon, read.privacy.delta) == (2.5, 1e-5)


def test_a_classifier_is_not_servable() -> None:
    """Even with an ONNX file: the service segments."""
    assert manifests.model(files=(FILE,)).servable
    assert not manifests.classifier(files=(FILE,)).servable


@pytest.mark.parametrize(
    "changes",
    [
        {"class_shares": {"blob": 1.5}},
        {"privacy": {"epsilon": 0.0}},
        {"privacy": {"epsilon": 1.0, "delta": 1.0}},
        {"image_size": 5000},
        {"task": "detection"},
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, object]) -> None:
    """No manifest is written that claims the impossible."""
    with pytest.raises(ValidationError):
        manifests.model(**changes)
