"""Starts and restarts of a run."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from histill.core.errors import WorkFailedError
from histill.core.manifests import Normalization
from histill.core.specs import (
    BoundaryWeighting,
    MultiTeacherSpec,
    NetworkSpec,
    SupervisedSpec,
    TrainingSpec,
)
from histill.distill.dataset import Dataset
from histill.distill.dead_start import DeadStartError
from histill.distill.devices import Place
from histill.distill.examples import Example
from histill.distill.history import History
from histill.distill.nets import build_network
from histill.distill.progress import Reporter
from histill.distill.run import Run
from histill.distill.run_checkpoint import RunCheckpoint, identity_of
from histill.distill.teachers import labeled_image
from histill.distill.workdir import RunOrder, Workdir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from histill.core.manifests import DatasetManifest
    from histill.distill.data import TrainingImage
    from histill.distill.run_checkpoint import Saved


class Starting(Run):
    """A run whose first starts are dead."""

    def with_dead_starts(self, number: int) -> Starting:
        """Sets how many."""
        object.__setattr__(self, "dead", number)
        object.__setattr__(self, "starts", [])
        return self

    def train_once(
        self, images: list[Any], start: int, checkpoint: RunCheckpoint, saved: Saved | None
    ) -> tuple[Any, History]:
        """Fails as often as it was told to."""
        del images, checkpoint
        self.starts.append((start, saved is not None))  # type: ignore[attr-defined]
        if len(self.starts) <= self.dead:  # type: ignore[attr-defined]
            raise DeadStartError
        return None, History()


class KilledError(Exception):
    """The process was killed."""


class Ending(Reporter):
    """Ends a run at a step of its second start."""

    def __init__(self, at: int) -> None:
        super().__init__(None)
        self._at, self.starts = at, 0

    def report(self, stage: str, step: int = 0, steps: int = 0, **_: Any) -> None:
        del stage, steps
        self.starts += step == 1
        if self.starts > 1 and step == self._at:
            raise KilledError


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
    assert run.starts == [(0, False), (1, False), (2, False)]  # type: ignore[attr-defined]
    seeds = [run.seed_of(start) for start in range(3)]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_resumed_run_counts_the_dead_starts_before(run: Starting) -> None:
    """It goes on with the start that was saved, and the next one is a fresh one."""
    identity = identity_of(run.order, 1)
    checkpoint = RunCheckpoint(run.workdir.checkpoint, identity, run.place)
    checkpoint.write({"start": 1}, {})
    assert run.with_dead_starts(1).train([])[2] == 3
    assert run.starts == [(1, True), (2, False)]  # type: ignore[attr-defined]


def test_three_dead_starts_fail_the_run(run: Starting) -> None:
    """After the third the run fails as DEAD_START."""
    with pytest.raises(WorkFailedError, match="in each of 3 starts") as caught:
        run.with_dead_starts(3).train([])
    assert caught.value.reason == "DEAD_START"


def test_a_run_resumed_after_a_dead_start_ends_with_the_same_student(
    run: Starting, blob: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second start goes on where it was, and the dead one is not tried again."""
    network = NetworkSpec(width=4, depth=2)
    training = TrainingSpec(steps=100, batch_size=2, crop_size=16, validations=1)
    spec = run.order.spec.model_copy(update={"training": training, "network": network})
    order = run.order.model_copy(update={"spec": spec, "checkpoint_s": 0.0})
    examples = [Example(str(i), *blob(i, 24)) for i in range(3)]
    dataset = Dataset(examples, examples[:1], run.dataset.normalization)

    def built(network: NetworkSpec, **sizes: int) -> nn.Module:
        net = build_network(network, **sizes)
        if torch.initial_seed() == training.seed:  # the first start
            for parameter in net.parameters():
                parameter.requires_grad_(False).zero_()
            list(net.parameters())[-1].requires_grad_()
        return net

    monkeypatch.setattr("histill.distill.run.build_network", built)
    ends = []
    for name, at in (("whole", None), ("killed", 60)):
        workdir = Workdir(tmp_path / name)
        workdir.root.mkdir()
        if at:
            ending = Ending(at)
            with pytest.raises(KilledError):
                Run(workdir, order, dataset, run.place, ending).train(prepared(run, examples))
            assert ending.starts == 2
        begun = Run(workdir, order, dataset, run.place, Reporter(None))
        with capture_logs() as logs:
            net, history, starts = begun.train(prepared(run, examples))
        assert starts == 2
        ends.append((net.state_dict(), history.terms, history.validation))
    assert [line["event"] for line in logs] == ["resumed"]
    assert (logs[0]["step"], logs[0]["start"]) == (59, 2)
    assert ends[0][1:] == ends[1][1:]
    assert all(torch.equal(ends[1][0][name], value) for name, value in ends[0][0].items())


@dataclass(frozen=True)
class Together(Place):
    """The first of several processes, of which the others are quick."""

    def meet(self) -> None:
        """Waits for nobody."""


def test_asking_teachers_in_several_processes_is_progress(
    run: Starting, blob: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image that this one has asked about stands for one of each other process."""
    told = list[tuple[str, int, int]]()

    class Noting(Reporter):
        def report(self, stage: str, step: int = 0, steps: int = 0, **_: Any) -> None:
            told.append((stage, step, steps))

    spec = MultiTeacherSpec(dataset="blobs", output_model="m", teachers=("a", "b"))
    order = run.order.model_copy(update={"spec": spec, "teacher_cache": str(tmp_path / "kept")})
    examples = [Example(str(i), *blob(i, 24)) for i in range(5)]
    dataset = Dataset(examples, examples[:1], run.dataset.normalization)
    panel = SimpleNamespace(ask=lambda _: None)
    weights = SimpleNamespace(teacher_weights=np.ones(0))
    monkeypatch.setattr("histill.distill.run.load_panel", lambda *_: panel)
    monkeypatch.setattr("histill.distill.run.judged_images", lambda *_, **__: [weights])
    place = Together(torch.device("cpu"), rank=0, world=2)
    Run(run.workdir, order, dataset, place, Noting(None)).prepare()
    assert told == [("teachers", step, 5) for step in (0, 2, 4, 5)]


def prepared(run: Starting, examples: list[Example]) -> list[TrainingImage]:
    return [labeled_image(each, run.order.spec.boundary) for each in examples]


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
