"""Classification without data, on the 8 x 8 digits that scikit-learn ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn import functional

import manifests
from histill.core.manifests import WEIGHTS, Normalization
from histill.core.specs import DataFreeSpec, NetworkSpec
from histill.distill.data_free.run import DataFreeRun
from histill.distill.devices import Place
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.progress import Reporter
from histill.distill.workdir import DataFreeOrder, Workdir

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

NORMALIZATION = Normalization(mean=(0.3,), std=(0.35,))
STUDENT = NetworkSpec(architecture="lenet5", width=4)
STEPS = 250


def digits() -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 1, 32, 32] and classes."""
    data = load_digits()
    images = torch.from_numpy((data.images * (255 / 16)).astype(np.float32))[:, None]
    large = functional.interpolate(images, size=(32, 32), mode="bilinear")
    return large.round(), torch.from_numpy(data.target).long()


def trained(network: NetworkSpec, images: Tensor, labels: Tensor, *, steps: int) -> Normalized:
    torch.manual_seed(0)
    net = Normalized(build_network(network, channels=1, classes=10), NORMALIZATION)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1)
    for _ in range(steps):
        at = torch.randint(len(images), (64,))
        loss = functional.cross_entropy(net(images[at]), labels[at])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((net.eval()(images).argmax(dim=1) == labels).float().mean())


@pytest.mark.timeout(240)
def test_a_student_without_data_comes_near_one_with_data(tmp_path: Path) -> None:
    """From the teacher alone, at least 0.9 of what as many steps on the real digits give."""
    torch.set_num_threads(1)
    images, labels = digits()
    train, test = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])
    network = NetworkSpec(architecture="lenet5", width=6)
    teacher = trained(network, *train, steps=300)
    real = accuracy(trained(STUDENT, *train, steps=STEPS), *test)
    assert real > 0.9
    workdir = Workdir(tmp_path)
    workdir.teacher(0).mkdir(parents=True)
    save_file(teacher.net.state_dict(), workdir.teacher(0) / WEIGHTS)
    manifest = manifests.classifier(network=network, normalization=NORMALIZATION)
    spec = DataFreeSpec.model_validate(
        {
            "output_model": "student",
            "teachers": ["digits"],
            "student": STUDENT.model_dump(),
            "training": {"steps": STEPS, "batch_size": 64, "learning_rate": 4e-3},
            "generators": {"width": 8, "learning_rate": 4e-3},
            "samples": {"memory_share": 0.75, "memory": 4096, "blending": 1.0},
        }
    )
    order = DataFreeOrder(job="jobs/digits", attempt=1, spec=spec, teachers=(manifest,))
    place = Place(torch.device("cpu"))
    free = DataFreeRun(workdir, order, place, Reporter(None)).distillation().run()
    assert accuracy(free, *test) >= 0.9 * real
