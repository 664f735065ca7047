"""A data-free run over two real trainer processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

import manifests
from histill.core.manifests import WEIGHTS
from histill.core.specs import DataFreeSpec, NetworkSpec
from histill.distill.nets import build_network
from histill.distill.workdir import DataFreeOrder, Workdir

if TYPE_CHECKING:
    from pathlib import Path

NETWORK = NetworkSpec(width=4, depth=3)


def order(root: Path) -> Workdir:
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
            "training": {"steps": 20, "batch_size": 4, "image_size": 16},
            "generators": {"width": 4, "noise": 4},
        }
    )
    workdir.write_order(DataFreeOrder(job="jobs/two", attempt=1, spec=spec, teachers=(teacher,)))
    return workdir


def test_two_processes_distil_one_student_without_data(tmp_path: Path) -> None:
    """Under torchrun they average gradients; the first writes, and the weights are finite."""
    workdir = order(tmp_path)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node=2", "-m", "histill.distill.trainer", str(workdir.root)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert workdir.read_result().parameters > 0
    weights = load_file(workdir.result / WEIGHTS)
    assert all(torch.isfinite(tensor.float()).all() for tensor in weights.values())
    assert not workdir.checkpoint.exists()
