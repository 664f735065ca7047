"""Starts and restarts of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from histill.core.errors import WorkFailedError
from histill.core.manifests import Normalization
from histill.core.specs import SupervisedSpec, TrainingSpec
from histill.distill.dataset import Dataset
from histill.distill.devices import Place
from histill.distill.loop import DeadStartError, History
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


def test_processes_share_a_batch() -> None:
    """Parts of a batch add up to it, and nobody goes without."""
    parts = [Place(torch.device("cpu"), rank, 4).share(10) for rank in range(4)]
    assert parts == [3, 3, 2, 2]
    assert Place(torch.device("cpu"), 3, 4).share(2) == 1
