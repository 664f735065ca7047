"""How far a batch is, layer by layer, from what a teacher saw in its training.

A batch norm keeps the mean and variance of its inputs. They are all that a data-free
job knows of the teacher's images, and matter more than any other term. Other norms keep
nothing: then the statistics that were recorded when the teacher was trained stand in.

Source: Yin et al., DeepInversion, https://arxiv.org/abs/1912.08795; here relative to the
norms of the stored vectors, so that no layer outweighs the rest by its scale.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Stored = tuple[Tensor, Tensor]

_TINY = 1e-6
_LEAST_MEAN = 0.01  # of the spread
_BATCH_NORM = "aten::batch_norm"
_MEAN, _VARIANCE = 3, 4  # among the arguments of that operator


class WatchedTeacher:
    """A teacher that also says how far a batch is from what it was trained on.

    Args:
        net: Maps float images [N, C, H, W] to logits; frozen, in eval mode. TorchScript
            programs in it are replaced.
        recorded: For norms without statistics of their own, by the layer's name within the
            network as it was saved: mean and variance of its input channels, float [C].

    Raises:
        ValueError: What is recorded of a layer has another number of channels than it.

    Attributes:
        layers: Number of layers that are compared; 0 when none has statistics.
    """

    def __init__(self, net: nn.Module, recorded: Mapping[str, Stored] | None = None) -> None:
        self._net = net
        self._seen: list[Tensor] = []
        self.layers = 0
        for name, layer in list(net.named_modules()):
            if isinstance(layer, torch.jit.ScriptModule):
                continue  # a part of a program, which is replaced as a whole
            for part, child in layer.named_children():
                if isinstance(child, torch.jit.ScriptModule):
                    tapped = _Tapped(child, self._see)
                    setattr(layer, part, tapped)
                    self.layers += len(tapped.stored)
            stored = _recorded(name, recorded or {})
            channels = getattr(layer, "num_features", getattr(layer, "num_channels", None))
            if stored is not None and channels not in {None, len(stored[0])}:
                raise ValueError(f"{name} has {channels} channels, not {len(stored[0])}")
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
                stored = (layer.running_mean, cast("Tensor", layer.running_var))
            if stored is not None:
                layer.register_forward_pre_hook(self._hook(stored))
                self.layers += 1

    def _hook(self, stored: Stored) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._see(inputs[0], stored)

        return hook

    def _see(self, x: Tensor, stored: Stored) -> None:
        if torch.is_grad_enabled():  # nobody asks otherwise
            self._seen.append(layer_distance(x, *stored))

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and the mean distance over the layers, scalar.

        The distance is ``None`` without gradients, or where no layer has statistics.
        """
        self._seen.clear()
        logits = self._net(images)
        return logits, torch.stack(self._seen).mean() if self._seen else None


def _recorded(name: str, recorded: Mapping[str, Stored]) -> Stored | None:
    """What was recorded of a layer; the network may lie some levels down."""
    parts = name.split(".")
    found = (recorded.get(".".join(parts[start:])) for start in range(len(parts)))
    return next((stored for stored in found if stored is not None), None)


class _Tapped(nn.Module):
    """A TorchScript program whose batch norms are watched.

    Hooks do not reach into a program, but its graph can be read and made to return the
    inputs of its batch norms too; each names the statistics that it holds.

    Args:
        program: In eval mode.
        see: Called with the input of each batch norm and what that one has stored.
    """

    def __init__(
        self, program: torch.jit.ScriptModule, see: Callable[[Tensor, Stored], None]
    ) -> None:
        super().__init__()
        self._see = see
        with warnings.catch_warnings():
            # torch would rather have torch.export; teachers come as they are.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            self._frozen = torch.jit.freeze(program, optimize_numerics=False)
        graph = self._frozen.graph.copy()
        inputs = []
        self.stored: list[Stored] = []
        for node in graph.nodes():
            if node.kind() == _BATCH_NORM:
                given = list(node.inputs())
                stored: Any = given[_MEAN].toIValue(), given[_VARIANCE].toIValue()
                if None not in stored:
                    inputs.append(given[0])
                    self.stored.append(stored)
        for value in inputs:
            graph.registerOutput(value)
        if inputs:
            graph.makeMultiOutputIntoTuple()
        make: Any = torch._C._create_function_from_graph  # noqa: SLF001 - there is no public form
        self._function = make("watched", graph)

    def forward(self, x: Tensor) -> Any:
        """What the program gives."""
        result = self._function(self._frozen._c, x)  # noqa: SLF001
        if not self.stored:
            return result
        for seen, stored in zip(result[1:], self.stored, strict=True):
            self._see(seen, stored)
        return result[0]


def layer_distance(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Distance of a batch's channel statistics from stored ones, each relative to its norm.

    Args:
        x: float [N, C, H, W].
        mean: float [C].
        variance: float [C], at least 0.

    Returns:
        Scalar, 0 when they are equal.
    """
    variances, means = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    # Means that are all about 0, as next to their spread they may be, are no scale.
    scale = torch.maximum(mean.norm(), _LEAST_MEAN * variance.sum().sqrt())
    distance: Tensor = (means - mean).norm() / (scale + _TINY)
    spread: Tensor = (variances - variance).norm() / (variance.norm() + _TINY)
    return distance + spread
