"""MNIST for LeNet-5 and the half of it: teacher, students on real data, accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from histill.core.catalog import file_of
from histill.core.manifests import WEIGHTS, ModelManifest, ModelRole, Normalization
from histill.core.specs import LENET_SIDE, NetworkSpec
from histill.distill.nets import build_network, count_parameters
from histill.distill.predict import Normalized
from nuclei import DATA, EPOCH

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

TEACHER, STUDENT = (NetworkSpec(architecture="lenet5", width=width) for width in (6, 3))
CLASSES = tuple("0123456789")
NORMALIZATION = Normalization(mean=(0.1,), std=(0.28,))  # of digits on 32 x 32 pixels
TEACHER_EPOCHS, BATCH, TEACHER_RATE = 6, 128, 4e-3
_PADDING = (LENET_SIDE - 28) // 2
_CHUNK = 1000


@dataclass(frozen=True)
class Digits:
    """One split: uint8 [N, 1, 32, 32] and class indices."""

    images: Tensor
    labels: Tensor


def digits(split: str) -> Digits:
    """``train`` or ``test``."""
    with np.load(DATA / "mnist.npz") as archive:
        images, labels = archive[f"x_{split}"], archive[f"y_{split}"]
    padded = functional.pad(torch.from_numpy(images)[:, None], (_PADDING,) * 4)
    return Digits(padded, torch.from_numpy(labels).long())


def trained(
    network: NetworkSpec,
    steps: int,
    *,
    seed: int,
    batch: int = BATCH,
    rate: float = TEACHER_RATE,
    teacher: nn.Module | None = None,
) -> Normalized:
    """A network trained on all training images, from labels or by plain distillation."""
    torch.manual_seed(seed)
    net = Normalized(build_network(network, channels=1, classes=len(CLASSES)), NORMALIZATION)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1)
    data = digits("train")
    net.train()
    for _ in range(steps):
        chosen = torch.randint(len(data.images), (batch,))
        images = data.images[chosen].float()
        logits = net(images)
        if teacher is None:
            loss = functional.cross_entropy(logits, data.labels[chosen])
        else:
            with torch.no_grad():
                target = teacher(images).log_softmax(dim=1)
            loss = functional.kl_div(
                logits.log_softmax(dim=1), target, reduction="batchmean", log_target=True
            )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def logits(net: nn.Module, images: Tensor) -> Tensor:
    """Float [N, 10] of uint8 images."""
    net.eval()
    return torch.cat([net(part.float()) for part in torch.split(images, _CHUNK)])


def store(folder: Path, net: Normalized) -> ModelManifest:
    """Writes a teacher's weights; its manifest as the registry would hold it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(net.net.state_dict(), folder / WEIGHTS)
    return ModelManifest(
        name="digits-teacher",
        version=1,
        role=ModelRole.TEACHER,
        network=TEACHER,
        task="classification",
        image_size=LENET_SIDE,
        channels=1,
        classes=CLASSES,
        normalization=NORMALIZATION,
        create_time=EPOCH,
        parameters=count_parameters(net),
        files=(file_of(folder / WEIGHTS),),
    )


def load(folder: Path, network: NetworkSpec) -> Normalized:
    """What ``store`` wrote."""
    net = Normalized(build_network(network, channels=1, classes=len(CLASSES)), NORMALIZATION)
    net.net.load_state_dict(load_file(folder / WEIGHTS))
    return net.eval()
