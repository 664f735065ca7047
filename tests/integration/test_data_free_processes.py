"""Data-free runs over two real trainer processes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

import manifests
from histill.core.manifests import WEIGHTS
from histill.core.specs import DataFreeSpec, NetworkSpec
from histill.distill.nets import build_network
from histill.distill.workdir import DataFreeOrder, Workdir
from trainer_runs import killed, run

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = NetworkSpec(width=4, depth=3)


def order(root: Path, *, steps: int = 20, checkpoint_s: float = 60.0) -> Workdir:
    """A work folder with a teacher of random weights and a short job."""
    workdir = Workdir(root)
    workdir.teacher(0).mkdir(parents=True)
    torch.manual_seed(0)
    net = build_network(NETWORK, channels=1, classes=2)
    save_file(net.state_dict(), workdir.teacher(0) / WEIGHTS)
    teacher = manifests.model(network=NETWORK)
    spec = DataFreeSpec.model_validate(
        {
            "output_model": "student",
            "teachers": ["teacher"],
            "student": NETWORK.model_dump(),
            "training": {"steps": steps, "batch_size": 4, "image_size": 16},
            "generators": {"width": 4, "noise": 4},
        }
    )
    workdir.write_order(
        DataFreeOrder(
            job="jobs/two",
            attempt=1,
            spec=spec,
            teachers=(teacher,),
            checkpoint_s=checkpoint_s,
        )
    )
    return workdir


def test_two_processes_distil_one_student_without_data(tmp_path: Path) -> None:
    """Under torchrun they average gradients; the first writes, and the weights are finite."""
    workdir = order(tmp_path)
    done = run(workdir, processes=2)
    assert done.returncode == 0, done.stderr[-2000:]
    assert workdir.read_result().parameters > 0
    weights = load_file(workdir.result / WEIGHTS)
    assert all(torch.isfinite(tensor.float()).all() for tensor in weights.values())


def test_two_killed_processes_end_with_the_same_student(tmp_path: Path) -> None:
    """Each goes on from its own part of the checkpoint, and the weights have the same bytes."""
    whole = order(tmp_path / "whole", steps=60)
    workdir = order(tmp_path / "killed", steps=60, checkpoint_s=0)
    killed(workdir, at=2, processes=2)
    for each in (whole, workdir):
        done = run(each, processes=2)
        assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"event=resumed step=[1-9]", done.stderr)
    assert [path.name for path in workdir.root.glob("checkpoint*")] == [workdir.checkpoint.name]
    students = [(each.result / WEIGHTS).read_bytes() for each in (whole, workdir)]
    assert students[0] == students[1]
