"""Two real processes train one network together over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

_STEPS = 12
# Trains on made-up images and prints its losses; instance norms see one image at a time,
# so that the network does not depend on how a batch is divided.
_PROGRAM = """
import json, sys
import numpy as np, torch
from histill.core.manifests import Normalization
from histill.core.specs import BoundaryWeighting, MultiTeacherSpec, NetworkSpec, TrainingSpec
from histill.distill.boundary import boundary_weight
from histill.distill.data import CropSampler, TrainingImage
from histill.distill.devices import joined
from histill.distill.loop import fit
from histill.distill.nets import build_network
from histill.distill.objective import Objective
from histill.distill.predict import Normalized
from histill.distill.progress import Reporter

torch.set_num_threads(1)
rng = np.random.default_rng(0)
images = []
for number in range(10):
    target = np.zeros((24, 24), np.uint8)
    row, column = rng.integers(2, 12, 2)
    target[row:row + 8, column:column + 8] = 1
    image = (rng.normal(70, 25, target.shape) + 90 * target).clip(0, 255).astype(np.uint8)
    mixture = np.where(target == np.arange(2)[:, None, None], 0.9, 0.1).astype(np.float16)
    images.append(TrainingImage(
        image[..., None], target, number < 3, boundary_weight(target, BoundaryWeighting()).astype(
        np.float16), mixture, np.ones(1, np.float32)))
spec = MultiTeacherSpec(dataset="d", output_model="m", teachers=("t",), edge_weight=0.5,
                        affinity_weight=0.5)
with joined() as place:
    torch.manual_seed(0)
    net = Normalized(build_network(NetworkSpec(width=4, depth=2, norm="instance"), channels=1,
                                   classes=2), Normalization(mean=(0.4,), std=(0.2,)))
    sampler = CropSampler(images, classes=2, crop_size=16, batch_size=int(sys.argv[1]), seed=0,
                          augment=True, rank=place.rank, world=place.world)
    training = TrainingSpec(steps=int(sys.argv[2]), crop_size=16, validations=1, patience=1)
    net, history = fit(net, sampler, Objective.of(spec), training=training, place=place,
                       reporter=Reporter(None), validate=lambda _: {"dice": 0.5})
    if place.first:
        print(json.dumps({"losses": history.terms["loss"], "step": history.best_step,
                          "weights": net.state_dict()["net.model.0.conv.weight"].sum().item()}))
"""


def _train(program: Path, *, processes: int, batch: int) -> dict[str, Any]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [
            sys.executable,
            *(launcher if processes > 1 else []),
            str(program),
            str(batch),
            str(_STEPS),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("batch", [4, 5])
def test_two_processes_follow_the_loss_curve_of_one(batch: int, tmp_path: Path) -> None:
    """The same crops, losses and gradients, also where a batch cannot be divided evenly."""
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    one, two = (_train(program, processes=number, batch=batch) for number in (1, 2))
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=2e-3)
    assert two["step"] == one["step"]
    assert two["losses"][-1] < two["losses"][0]
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=1e-2)
