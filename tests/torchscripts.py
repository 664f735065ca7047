"""TorchScript programs for tests, good and bad, written with torch.jit as users do."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path


class Plain(nn.Module):
    """One convolution: logits of any size."""

    def __init__(self, channels: int = 1, outputs: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x) * 4
        return out


class Classifier(nn.Module):
    """Logits of a whole image: of any size with ``side`` 0, else of that size alone."""

    def __init__(self, channels: int = 1, outputs: int = 2, side: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(4) if side == 0 else nn.MaxPool2d(side // 4)
        self.last = nn.Linear(4 * 4 * 4, outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.pool(self.conv(x)).flatten(1)) * 4
        return out


class Levelled(Plain):
    """Halves three times and doubles again, so that sides must be multiples of 8."""

    def forward(self, x: Tensor) -> Tensor:
        small = nn.functional.max_pool2d(self.conv(x), 8)
        return nn.functional.interpolate(small, scale_factor=8.0)


class Crossed(Plain):
    """Adds a skip of another size unless sides are multiples of 4."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        small = nn.functional.max_pool2d(out, 4)
        return out + nn.functional.interpolate(small, scale_factor=4.0)


class Half(Plain):
    """Gives half the resolution, always."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.max_pool2d(self.conv(x), 2)


class Masks(Plain):
    """Gives the arg-max instead of logits."""

    def forward(self, x: Tensor) -> Tensor:
        mask = self.conv(x).argmax(dim=1, keepdim=True)
        return torch.cat([1 - mask, mask], dim=1)


class Rounded(Plain):
    """Rounds, so that nothing can be learned through it."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return (out * 8).round()


class Detached(Plain):
    """Cuts the gradient off."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out.detach()


class Dropping(Plain):
    """Keeps its dropout in eval mode."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.conv(x), 0.5, training=True)


class Softened(Plain):
    """Gives probabilities instead of logits."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.conv(x), dim=1)


class Broken(Plain):
    """Gives NaN."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return torch.log(-out.abs() - 1)


class Listed(Plain):
    """Gives a list of one tensor."""

    def forward(self, x: Tensor) -> list[Tensor]:  # type: ignore[override]
        return [self.conv(x)]


class Named(Plain):
    """Gives a dict of one tensor."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return {"pred": self.conv(x)}


class Supervised(Plain):
    """Gives a tuple of two tensors, as deep supervision does."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return self.conv(x), self.conv(x)


def write(net: nn.Module, folder: Path) -> Path:
    """Scripts a network into ``model.ts``; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(net.eval()), folder / "model.ts")
    return folder
