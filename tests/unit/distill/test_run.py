"""Starts and restarts of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from histill.core.errors import WorkFailedError
from histill.core.manifests import Normalization
from histill.core.specs import BoundaryWeighting, SupervisedSpec, TrainingSpec
from histill.distill.dataset import Dataset
from histill.distill.dead_start import DeadStartError
from histill.distill.devices import Place
from histill.distill.history import History
from histill.distill.progress import Reporter
from histill.distill.run import Run
from histill.distill.workdir import RunOrder, Workdir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.core.manifests import DatasetManifest


class Starting(Run):
    """A run whose first starts are dead."""

    def with_dead_starts(self, number: int) -> Starting:
        """Sets how many."""
        object.__setattr__(self, "dead", number)
        object.__setattr__(self, "seeds", [])
        return self

    def train_once(self, images: list[Any], seed: int) -> tuple[Any, History]:
        """Fails as often as it was told to."""
        del images
        self.seeds.append(seed)  # type: ignore[attr-defined]
        if len(self.seeds) <= self.dead:  # type: ignore[attr-defined]
            raise DeadStartError
        return None, History()


@pytest.fixture
def run(tmp_path: Path, dataset_manifest: Callable[..., DatasetManifest]) -> Starting:
    """A run that never trains."""
    spec = SupervisedSpec(dataset="blobs", output_model="m", training=TrainingSpec(seed=2**31 - 1))
    order = RunOrder(job="jobs/1", attempt=1, spec=spec, dataset=dataset_manifest())
    dataset = Dataset([], [], Normalization(mean=(0.5,), std=(0.2,)))
    place = Place(torch.device("cpu"))
    return Starting(Workdir(tmp_path), order, dataset, place, Reporter(None))


def test_a_dead_start_is_tried_again_with_another_seed(run: Starting) -> None:
    """Two dead starts are forgiven, each with a seed of its own."""
    assert run.with_dead_starts(2).train([])[2] == 3
    seeds = run.seeds  # type: ignore[attr-defined]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_three_dead_starts_fail_the_run(run: Starting) -> None:
    """After the third the run fails as DEAD_START."""
    with pytest.raises(WorkFailedError, match="in each of 3 starts") as caught:
        run.with_dead_starts(3).train([])
    assert caught.value.reason == "DEAD_START"


def test_millimetres_need_the_size_of_a_pixel(
    run: Starting, dataset_manifest: Callable[..., DatasetManifest]
) -> None:
    """A boundary in mm takes the dataset's pixel size, and is refused without one."""
    assert run.spacing() == 1.0
    spec = run.order.spec.model_copy(update={"boundary": BoundaryWeighting(unit="mm")})
    known, unknown = (
        dataset_manifest(pixel_size_mm=size) if size else dataset_manifest() for size in (0.5, 0.0)
    )
    orders = [run.order.model_copy(update={"spec": spec, "dataset": d}) for d in (known, unknown)]
    in_mm, refused = (
        Run(run.workdir, order, run.dataset, run.place, run.reporter) for order in orders
    )
    assert in_mm.spacing() == 0.5
    with pytest.raises(WorkFailedError, match=r"boundary\.unit is mm") as caught:
        refused.spacing()
    assert caught.value.reason == "DATASET_INVALID"
