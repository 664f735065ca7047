"""The closed registry of networks: nothing outside it can be built.

MONAI's networks and blocks with the plane number of dimensions as one constant, so
that volumes can come later.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, cast

from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from histill.core.specs import NetworkSpec

_DIMS = 2
_ACTIVATION = ("leakyrelu", {"negative_slope": 0.1, "inplace": True})


class LevelledUNet(nn.Module):
    """A U-Net of MONAI's BasicUNet blocks with any number of levels; BasicUNet has five.

    Two convolutions a level, max pooling down, transposed convolutions up.
    """

    def __init__(
        self, channels: int, classes: int, widths: Sequence[int], norm: tuple[str, dict[str, bool]]
    ) -> None:
        super().__init__()
        shared = (_ACTIVATION, norm, True)
        self.first = TwoConv(_DIMS, channels, widths[0], *shared)
        self.downs = nn.ModuleList(Down(_DIMS, a, b, *shared) for a, b in pairwise(widths))
        # Inputs are multiples of the stride, so levels never differ by a pixel.
        self.ups = nn.ModuleList(
            UpCat(_DIMS, b, a, a, *shared, is_pad=False, halves=True)
            for a, b in reversed(list(pairwise(widths)))
        )
        self.last = nn.Conv2d(widths[0], classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes, H, W] from [N, channels, H, W]."""
        levels = [self.first(x)]
        for down in self.downs:
            levels.append(down(levels[-1]))
        x = levels.pop()
        for up in self.ups:
            x = up(x, levels.pop())
        return cast("Tensor", self.last(x))


class LeNet5(nn.Module):
    """LeNet-5 with batch norms, for images of 32 x 32 pixels.

    Args:
        channels: Of the input.
        classes: Of the output.
        width: Channels of the first layer: 6 is LeNet-5, 3 the half of it.

    Source: LeCun et al. 1998, with the rectifiers, max pooling and batch norms that data-free
    distillation is usually compared on.
    """

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        second, third, hidden = 16 * width // 6, 20 * width, 14 * width
        self.features = nn.Sequential(
            *(nn.Conv2d(channels, width, 5), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(width, second, 5), nn.BatchNorm2d(second), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(second, third, 5), nn.BatchNorm2d(third), nn.ReLU()),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(third, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes] from [N, channels, 32, 32]."""
        return cast("Tensor", self.classifier(self.features(x)))


def build_network(spec: NetworkSpec, *, channels: int, classes: int) -> nn.Module:
    """A network with fresh weights from torch's global random state.

    Args:
        spec: Family, width, depth and norm.
        channels: Of the input.
        classes: Of the output.

    Returns:
        Maps float [N, channels, H, W] to logits [N, classes, H, W]; H and W must be
        multiples of ``spec.stride``.
    """
    widths = [spec.width * 2**level for level in range(spec.depth)]
    strides = [2] * (spec.depth - 1)
    norm = (spec.norm, {"affine": True})
    match spec.architecture:
        case "unet":
            return cast(
                "nn.Module",
                UNet(_DIMS, channels, classes, widths, strides, num_res_units=0, norm=norm),
            )
        case "basic_unet":
            return LevelledUNet(channels, classes, widths, norm)
        case "lenet5":
            return LeNet5(channels, classes, spec.width)
        case "attention_unet":
            net = cast("nn.Module", AttentionUnet(_DIMS, channels, classes, widths, strides))
            return _with_instance_norm(net) if spec.norm == "instance" else net
        case "segresnet":
            # Transposed convolutions, since interpolation has no deterministic
            # backward pass on GPUs.
            return cast(
                "nn.Module",
                SegResNet(
                    _DIMS,
                    spec.width,
                    channels,
                    classes,
                    norm=norm,
                    blocks_down=(1,) * spec.depth,
                    blocks_up=(1,) * (spec.depth - 1),
                    upsample_mode="deconv",
                ),
            )


def _with_instance_norm(net: nn.Module) -> nn.Module:
    """Replaces batch norms in place, for a network that offers no choice."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(net, name, nn.InstanceNorm2d(child.num_features, affine=True))
        else:
            _with_instance_norm(child)
    return net


def count_parameters(net: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
