"""Loading a run's dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from histill.core.errors import WorkFailedError
from histill.core.specs import MultiTeacherSpec, SupervisedSpec, TrainingSpec
from histill.distill.dataset import load_dataset
from histill.distill.workdir import RunOrder, Workdir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from histill.core.manifests import DatasetManifest
    from histill.distill.dataset import Dataset

    Encode = Callable[[npt.NDArray[Any]], bytes]
    Load = Callable[..., Dataset]


@pytest.fixture
def members(png: Encode) -> dict[str, bytes]:
    """Four labelled training images and two validation images."""
    members = {}
    for number in range(6):
        name = f"{'train' if number < 4 else 'val'}/{number}"
        members[f"{name}.image.png"] = png(np.full((6, 6), number * 40, dtype=np.uint8))
        members[f"{name}.label.png"] = png(np.eye(6, dtype=np.uint8))
    return members


@pytest.fixture
def load(
    tmp_path: Path,
    write_shard: Callable[[Path, Mapping[str, bytes]], None],
    dataset_manifest: Callable[..., DatasetManifest],
) -> Load:
    """Loads members for a supervised run, or one with teachers."""

    def run(members: Mapping[str, bytes], *, labels: int = 0, teachers: bool = False) -> Dataset:
        write_shard(tmp_path / "dataset" / "shard-00000.tar", members)
        fields: dict[str, Any] = {
            "dataset": "blobs",
            "output_model": "m",
            "training": TrainingSpec(labeled_images=labels, seed=1),
        }
        spec = (
            MultiTeacherSpec(teachers=("teacher",), **fields)
            if teachers
            else SupervisedSpec(**fields)
        )
        order = RunOrder(job="jobs/1", attempt=1, spec=spec, dataset=dataset_manifest())
        return load_dataset(Workdir(tmp_path), order)

    return run


def test_only_the_chosen_images_keep_their_labels(load: Load, members: dict[str, bytes]) -> None:
    """With labeled_images 2, two of four have targets; all count for the normalisation."""
    dataset = load(members, labels=2)
    assert sum(e.target is not None for e in dataset.training) == 2
    assert dataset.normalization.mean[0] == pytest.approx((0 + 40 + 80 + 120) / 4 / 255)
    assert [e.key for e in dataset.validation] == ["4", "5"]


def test_more_labels_than_there_are_use_all(load: Load, members: dict[str, bytes]) -> None:
    """Asking for too many is no error."""
    assert all(e.target is not None for e in load(members, labels=9).training)


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_empty_split_is_invalid(split: str, load: Load, members: dict[str, bytes]) -> None:
    """Without images in train or val the run fails and says which."""
    rest = {k: v for k, v in members.items() if not k.startswith(split)}
    with pytest.raises(WorkFailedError, match=f"no images in the {split} split"):
        load(rest)


def test_training_from_labels_needs_labels(load: Load, members: dict[str, bytes]) -> None:
    """Without a training label, a supervised run fails."""
    rest = {k: v for k, v in members.items() if not (k.startswith("train") and "label" in k)}
    with pytest.raises(WorkFailedError, match="no image in the train split has a label"):
        load(rest)


def test_distillation_needs_no_labels(load: Load, members: dict[str, bytes]) -> None:
    """With teachers, a training split without labels is fine."""
    rest = {k: v for k, v in members.items() if not (k.startswith("train") and "label" in k)}
    assert all(e.target is None for e in load(rest, teachers=True).training)


def test_validation_needs_labels(load: Load, members: dict[str, bytes]) -> None:
    """Results are measured on labels, so val must have some."""
    rest = {k: v for k, v in members.items() if not (k.startswith("val") and "label" in k)}
    with pytest.raises(WorkFailedError, match="no image in the val split has a label"):
        load(rest)
