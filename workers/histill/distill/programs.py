"""A teacher's network from its files: registry weights, or a TorchScript program.

A TorchScript program is foreign code. It is loaded in the training subprocess and in
the check run (``histill.distill.check``) and nowhere else.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from histill.core.errors import InvalidArgumentError, WorkFailedError
from histill.core.manifests import TORCHSCRIPT, WEIGHTS
from histill.core.torchscript import check_program
from histill.distill.nets import build_network
from histill.distill.predict import Normalized, Predictor
from histill.distill.probes import (
    UNREADABLE,
    WEIGHTS_MISMATCH,
    WRONG_OUTPUT_SHAPE,
    first_line,
    probe,
    unfit,
)
from histill.distill.reasons import teacher_mismatch

if TYPE_CHECKING:
    from pathlib import Path

    from histill.core.manifests import ModelManifest

_NAMED = 3  # differences that a message names


def load_teacher(path: Path, manifest: ModelManifest, device: torch.device) -> Predictor:
    """A teacher ready to predict.

    Args:
        path: Folder with its ``weights.safetensors`` or ``model.ts``.
        manifest: Its network, activation and normalisation.
        device: Where it runs.

    Raises:
        WorkFailedError: TEACHER_MISMATCH; the file cannot be read, the weights are of
            another network, or the program takes or gives something else than the
            manifest says.
    """
    try:
        net = read_teacher(path, manifest, device)
        if manifest.network is None:
            probe(net, manifest, device)
    except WorkFailedError as exc:
        raise teacher_mismatch(f"teacher {manifest.reference}: {exc}", hint=exc.hint) from exc
    return Predictor(net, manifest.stride, device)


def read_teacher(path: Path, manifest: ModelManifest, device: torch.device) -> Normalized:
    """A teacher's network behind its normalisation, frozen and in eval mode, not yet run.

    Raises:
        WorkFailedError: UNREADABLE or WEIGHTS_MISMATCH.
    """
    if manifest.network is None:
        net: nn.Module = Outputs(_program(path / TORCHSCRIPT, device), manifest)
    else:
        net = _network(path / WEIGHTS, manifest)
        if manifest.activation == "sigmoid":
            net = Outputs(net, manifest)
    # ScriptModules have no requires_grad_ of their own.
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return Normalized(net, manifest.normalization).to(device).eval()


class Outputs(nn.Module):
    """A network whose outputs are checked and become one logit a class.

    Args:
        net: float [N, C, H, W] to a tensor, or a tuple, list or dict of one.
        manifest: Its task, classes and activation. With ``sigmoid``, outputs [z1..zF] become
            [0, z1..zF]: background is what no foreground class claims.
    """

    def __init__(self, net: nn.Module, manifest: ModelManifest) -> None:
        super().__init__()
        self.net = net
        self._classifies = manifest.task == "classification"
        self._sigmoid = manifest.activation == "sigmoid"
        self._channels = len(manifest.classes) - self._sigmoid

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, classes, H, W], or [N, classes] for classification.

        Raises:
            WorkFailedError: WRONG_OUTPUT_SHAPE.
        """
        logits = _single(self.net(x))
        sides = () if self._classifies else tuple(x.shape[2:])
        expected = (x.shape[0], self._channels, *sides)
        if tuple(logits.shape) != expected:
            raise unfit(
                WRONG_OUTPUT_SHAPE,
                f"the output is {list(logits.shape)} for an input of {list(x.shape)}; "
                f"{list(expected)} is needed{' to classify' if self._classifies else ''}",
                hint=self._shape_hint(logits, expected),
            )
        if not logits.is_floating_point():
            raise unfit(
                WRONG_OUTPUT_SHAPE,
                f"the output is {_name(logits.dtype)}, not floating-point logits",
                hint="Export the network without the arg-max or threshold behind it.",
            )
        if self._sigmoid:
            logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
        return logits

    def _shape_hint(self, logits: Tensor, expected: tuple[int, ...]) -> str:
        if logits.ndim != len(expected):
            if self._classifies:
                return (
                    "The program must map [N, C, H, W] to [N, classes]; leave task out if it "
                    "gives one class a pixel."
                )
            return (
                "The program must map [N, C, H, W] to [N, classes, H, W]; set task: "
                "classification, with an image_size, if it gives one class an image."
            )
        if logits.shape[1] == self._channels:
            if self._classifies:
                return "The output must have one row an image, whatever N is."
            return "The output must be as large as the input; set multiple_of if sides must fit."
        if not self._classifies and (
            logits.shape[1] == self._channels + (1 if self._sigmoid else -1)
        ):
            other = "softmax" if self._sigmoid else "sigmoid"
            return f"Set activation: {other} if that is what it was trained with."
        besides = "" if self._classifies else "; with sigmoid, background besides"
        return f"Name as many classes as it has outputs{besides}."


def _program(path: Path, device: torch.device) -> nn.Module:
    try:
        check_program(path, field=path.name)  # before any of its code runs
        with warnings.catch_warnings():
            # torch would rather have torch.export; teachers come as they are.
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            program: nn.Module = torch.jit.load(path, map_location=device)
    except (InvalidArgumentError, RuntimeError, OSError, ValueError) as exc:
        words = first_line(exc)
        if isinstance(exc, InvalidArgumentError):
            words = exc.violations[0].description
        raise unfit(
            UNREADABLE,
            f"{path.name} cannot be read as a TorchScript program: {words}",
            hint="Write it with torch.jit.script(net) or torch.jit.trace(net, example), .save().",
        ) from exc
    return program


def _network(path: Path, manifest: ModelManifest) -> nn.Module:
    if manifest.network is None:
        raise ValueError(manifest.reference)
    outputs = len(manifest.classes) - (manifest.activation == "sigmoid")
    net = build_network(manifest.network, channels=manifest.channels, classes=outputs)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, RuntimeError) as exc:
        raise unfit(
            UNREADABLE,
            f"its weights do not fit the safetensors format: {first_line(exc)}",
            hint="Write them with safetensors.torch.save_file(net.state_dict(), path).",
        ) from exc
    if differences := _differences(net.state_dict(), weights):
        more = len(differences) - _NAMED
        words = "; ".join(differences[:_NAMED]) + (f"; and {more} more" if more > 0 else "")
        raise unfit(
            WEIGHTS_MISMATCH,
            f"its weights do not fit its network: {words}",
            hint="Describe the network that the weights were saved from, its channels and classes.",
        )
    net.load_state_dict(weights)
    return net


def _differences(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    reshaped = [
        f"{name} is {list(given[name].shape)}, the network's {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    missing = [f"{name} is missing" for name in wanted if name not in given]
    return (
        reshaped + missing + [f"{name} is not the network's" for name in set(given) - set(wanted)]
    )


def _single(output: object) -> Tensor:
    """The tensor of an output that is one, or holds just one."""
    held = output
    if isinstance(held, dict):
        held = list(held.values())
    if isinstance(held, tuple | list) and len(held) == 1:
        held = held[0]
    if isinstance(held, Tensor):
        return held
    kind = type(output).__name__
    words = f"a {kind} of {len(held)}" if isinstance(held, tuple | list) else f"of type {kind}"
    raise unfit(
        WRONG_OUTPUT_SHAPE,
        f"the output is {words}, not one tensor",
        hint="Export a program that returns its logits alone, without deep supervision.",
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
