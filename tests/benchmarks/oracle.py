"""A teacher that knows each image's domain: the best there is for each, and no product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from histill.core.catalog import file_of
from histill.core.manifests import TORCHSCRIPT, ModelManifest, ModelRole, Normalization
from histill.distill.programs import load_teacher
from nuclei import CLASSES, EPOCH
from trainings import Trained

if TYPE_CHECKING:
    from pathlib import Path

_BRIGHT = 0.35  # H&E tiles are bright, fluorescence is dark: no tile is near it
_SIDE = 256


class ByDomain(nn.Module):
    """Sends bright images to one network and dark ones to another."""

    def __init__(self, bright: nn.Module, dark: nn.Module, temperatures: list[float]) -> None:
        super().__init__()
        self.bright, self.dark = bright, dark
        self.hot, self.cold = temperatures
        self.limit = _BRIGHT

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits from one float image [1, C, H, W] in [0, 1]."""
        logits: torch.Tensor = self.dark(image * 255.0) / self.cold
        if bool(image.mean() > self.limit):
            logits = self.bright(image * 255.0) / self.hot
        return logits


def oracle(folder: Path, *, bright: Trained, dark: Trained) -> Trained:
    """The two teachers as one TorchScript program."""
    folder.mkdir(parents=True, exist_ok=True)
    example = torch.zeros(1, 3, _SIDE, _SIDE)
    programs = [
        torch.jit.trace(  # type: ignore[no-untyped-call]
            load_teacher(each.folder, each.manifest, torch.device("cpu")).net.eval(), example
        )
        for each in (bright, dark)
    ]
    # Calibrated as the panel calibrates its teachers, so that only the weights differ.
    temperatures = [each.manifest.metrics["temperature"] for each in (bright, dark)]
    program = torch.jit.script(ByDomain(programs[0], programs[1], temperatures).eval())
    program.save(str(folder / TORCHSCRIPT))  # type: ignore[no-untyped-call]
    manifest = ModelManifest(
        name="oracle",
        version=1,
        role=ModelRole.TEACHER,
        network=None,
        multiple_of=max(bright.manifest.stride, dark.manifest.stride),
        channels=3,
        classes=CLASSES,
        normalization=Normalization(mean=(0.0,) * 3, std=(1.0,) * 3),
        create_time=EPOCH,
        files=(file_of(folder / TORCHSCRIPT),),
    )
    return Trained(folder, manifest, bright.result, bright.seconds + dark.seconds)
