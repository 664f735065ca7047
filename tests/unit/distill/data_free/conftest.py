"""Tiny teachers, specs and engines for the tests of data-free distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import manifests
from histill.core.manifests import WEIGHTS, ModelManifest, Normalization
from histill.core.specs import DataFreeSpec, NetworkSpec
from histill.distill.data_free.engine import Engine
from histill.distill.data_free.generator import Generator
from histill.distill.data_free.shares import share_bounds
from histill.distill.data_free.statistics import WatchedTeacher
from histill.distill.data_free.teachers import Council
from histill.distill.devices import Place
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.workdir import DataFreeOrder, Workdir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CONSTANTS = Normalization(mean=(0.5,), std=(0.25,))
_SIDES = {"segmentation": 16, "classification": 32}
_STUDENTS: dict[str, dict[str, Any]] = {
    "segmentation": {"width": 4, "depth": 2},
    "classification": {"architecture": "lenet5", "width": 3},
}
_CLASSES = {"segmentation": 2, "classification": 4}


@pytest.fixture
def place() -> Place:
    """One process on the CPU."""
    return Place(torch.device("cpu"))


@pytest.fixture
def make_net() -> Callable[..., Normalized]:
    """Makes a frozen teacher's network that has seen bright and dark fields."""

    def make(task: str = "segmentation", *, seed: int = 0, **network: Any) -> Normalized:
        torch.manual_seed(seed)
        spec = NetworkSpec.model_validate(_STUDENTS[task] | network)
        net = Normalized(build_network(spec, channels=1, classes=_CLASSES[task]), CONSTANTS)
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 1.0
        fields = torch.rand(16, 1, _SIDES[task] // 4, _SIDES[task] // 4)
        net.train()(nn.functional.interpolate(fields, scale_factor=4) * 255)
        net.eval().requires_grad_(False)
        return net

    return make


@pytest.fixture
def make_council(make_net: Callable[..., Normalized]) -> Callable[..., Council]:
    """Makes a council of some random teachers."""

    def make(task: str = "segmentation", *, count: int = 1) -> Council:
        teachers = [WatchedTeacher(make_net(task, seed=seed)) for seed in range(count)]
        return Council(teachers, [1.0] * count, [0.9] * count)

    return make


@pytest.fixture
def make_spec() -> Callable[..., DataFreeSpec]:
    """Makes a small spec; numbers of a part are given as a dict under its name."""

    def make(task: str = "segmentation", **parts: Any) -> DataFreeSpec:
        fields: dict[str, Any] = {
            "output_model": "m",
            "teachers": ("teacher@1",),
            "student": _STUDENTS[task],
            "training": {
                "steps": 8, "student_steps": 2, "batch_size": 8, "image_size": _SIDES[task]
            },
            "generators": {"width": 4, "noise": 4},
            "samples": {"memory": 32, "blending": 0.5},
        }  # fmt: skip
        for name, part in parts.items():
            fields[name] = fields[name] | part if isinstance(fields.get(name), dict) else part
        return DataFreeSpec.model_validate(fields)

    return make


@pytest.fixture
def make_engine(
    make_spec: Callable[..., DataFreeSpec], make_council: Callable[..., Council], place: Place
) -> Callable[..., Engine]:
    """Makes an engine, or one of a subclass; always with the same weights."""

    def make(
        task: str = "segmentation",
        *,
        council: Council | None = None,
        kind: type[Engine] = Engine,
        **parts: Any,
    ) -> Engine:
        spec = make_spec(task, **parts)
        council = council or make_council(task)
        torch.manual_seed(spec.training.seed)
        net = build_network(spec.student, channels=1, classes=_CLASSES[task])

        def make_generator() -> Generator:
            return Generator(
                channels=1,
                side=spec.training.image_size,
                width=spec.generators.width,
                noise=spec.generators.noise,
                mean=(0.5,),
                spatial=task == "segmentation",
            )

        bounds = share_bounds(("background", "blob"), {}, {}) if task == "segmentation" else None
        student = Normalized(net, CONSTANTS)
        return kind(spec, council, student, make_generator, bounds=bounds, place=place)

    return make


@pytest.fixture
def write_work(
    make_net: Callable[..., Normalized], make_spec: Callable[..., DataFreeSpec]
) -> Callable[..., Workdir]:
    """Writes a work folder with a random teacher and an order."""

    def write(folder: Path, task: str = "segmentation", **parts: Any) -> Workdir:
        spec, workdir = make_spec(task, **parts), Workdir(folder)
        workdir.teacher(0).mkdir(parents=True)
        weights = make_net(task).net.state_dict()
        save_file(weights, workdir.teacher(0) / WEIGHTS)
        workdir.write_order(
            DataFreeOrder(job="jobs/j1", attempt=1, spec=spec, teachers=(_manifest(task),))
        )
        return workdir

    return write


def _manifest(task: str) -> ModelManifest:
    """Of the teacher that ``make_net`` makes, with classes of awkward names."""
    names = ("background", "<b>&lesion</b>", "c", "d")[: _CLASSES[task]]
    if task == "classification":
        return manifests.classifier(network=_STUDENTS[task], classes=names)
    return manifests.model(network=_STUDENTS[task], classes=names, class_shares={names[1]: 0.2})
