"""Runs a teacher on noise, and says in words why it does not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from histill.core.errors import WorkFailedError
from histill.distill.reasons import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor, nn

    from histill.core.manifests import ModelManifest
    from histill.distill.predict import Normalized

UNREADABLE = "UNREADABLE"
WEIGHTS_MISMATCH = "WEIGHTS_MISMATCH"
WRONG_CHANNELS = "WRONG_CHANNELS"
WRONG_OUTPUT_SHAPE = "WRONG_OUTPUT_SHAPE"

_PROBE_PX = 48  # room for the levels of a network whose stride is not declared
_OTHER_CHANNELS = (1, 3, 4, 2)
_OTHER_STRIDES = (2, 4, 8, 16, 32, 64)
_OTHER_SIDES = (28, 32, 48, 64, 96, 128, 224, 256, 299, 384, 512)  # of classifiers' images


def probe(net: Normalized, manifest: ModelManifest, device: torch.device) -> None:
    """Runs a teacher once on noise.

    Raises:
        WorkFailedError: WRONG_CHANNELS, WRONG_OUTPUT_SHAPE or UNREADABLE.
    """
    height, width = sizes_to_try(manifest)[0]
    image = torch.rand(1, manifest.channels, height, width, device=device) * 255
    with torch.inference_mode():
        run_program(net, image, manifest)


def probe_sizes(stride: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two sizes, not square, whose sides are multiples of a stride."""
    n = max(2, -(-_PROBE_PX // stride))
    return (n * stride, (n + 1) * stride), ((n + 2) * stride, (n + 1) * stride)


def sizes_to_try(manifest: ModelManifest) -> tuple[tuple[int, int], ...]:
    """Sizes of images that a teacher must take: for classification the declared one alone."""
    if manifest.task == "classification":
        return ((manifest.image_size, manifest.image_size),)
    return probe_sizes(manifest.stride)


def run_program(net: Normalized, image: Tensor, manifest: ModelManifest) -> Tensor:
    """Logits of float [N, C, H, W] in units of a byte, or what is wrong in words.

    Returns:
        float [N, classes, H, W], or [N, classes] for classification.

    Raises:
        WorkFailedError: WRONG_CHANNELS, WRONG_OUTPUT_SHAPE or UNREADABLE.
    """
    try:
        logits: Tensor = net(image)
    except WorkFailedError as exc:
        stride = _stride_that_works(net, image, manifest)
        if stride is None:
            raise
        raise unfit(exc.reason, str(exc), hint=_stride_hint(stride)) from exc
    except Exception as exc:
        # A foreign program may raise anything.
        if is_out_of_memory(exc):
            raise
        raise _why(exc, net, image, manifest) from exc
    return logits


def _why(
    error: Exception, net: Normalized, image: Tensor, manifest: ModelManifest
) -> WorkFailedError:
    # Of a size that suits it too, for both may be wrong.
    sizes = [tuple(image.shape[2:])]
    if manifest.task == "segmentation":
        sizes.append(probe_sizes(max(_OTHER_STRIDES))[0])
    for channels in _OTHER_CHANNELS:
        shapes = [(1, channels, *size) for size in sizes]
        if channels != manifest.channels and any(
            _runs(net.net, image.new_zeros(shape)) for shape in shapes
        ):
            return unfit(
                WRONG_CHANNELS,
                f"it takes {channels} channels; {manifest.channels} are declared",
                hint=f"Set channels: {channels}, with a mean and std for each.",
            )
    height, width = image.shape[2:]
    if manifest.task == "classification":
        side = _side_that_works(net, image, manifest)
        return unfit(
            WRONG_OUTPUT_SHAPE if side else UNREADABLE,
            f"it stops on {height}x{width} pixels: {last_line(error)}",
            hint=f"It runs on images of {side}x{side} pixels: set image_size: {side}."
            if side
            else f"It must map float [N, C, {height}, {width}], of any N, to logits [N, classes]; "
            "export it so, or correct image_size.",
        )
    stride = _stride_that_works(net, image, manifest)
    return unfit(
        WRONG_OUTPUT_SHAPE if stride else UNREADABLE,
        f"it stops on {height}x{width} pixels: {last_line(error)}",
        hint=_stride_hint(stride)
        if stride
        else "It must map float [N, C, H, W], of any N, "
        "H and W that multiple_of allows, to logits; export it so.",
    )


def _stride_that_works(net: Normalized, image: Tensor, manifest: ModelManifest) -> int | None:
    """A larger ``multiple_of`` with which a program runs, if there is one."""
    if manifest.network is not None or manifest.task == "classification":
        return None
    for stride in _OTHER_STRIDES:
        sizes = probe_sizes(stride)
        if stride > manifest.stride and all(
            _runs(net, image.new_zeros((1, manifest.channels, *size))) for size in sizes
        ):
            return stride
    return None


def _side_that_works(net: Normalized, image: Tensor, manifest: ModelManifest) -> int | None:
    """Another ``image_size`` with which a program runs, if there is one."""
    if manifest.network is not None:
        return None
    for side in _OTHER_SIDES:
        if _runs(net, image.new_zeros((len(image), manifest.channels, side, side))):
            return side
    return None


def _stride_hint(stride: int) -> str:
    return f"It runs when sides are multiples of {stride}: set multiple_of: {stride}."


def _runs(net: nn.Module, image: Tensor) -> bool:
    try:
        with torch.inference_mode():
            net(image)
    except Exception as exc:
        if is_out_of_memory(exc):
            raise
        return False
    return True


def first_line(error: Exception) -> str:
    """The start of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def last_line(error: Exception) -> str:
    """The end of an error's text, where the TorchScript interpreter says what happened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]


def unfit(code: str, message: str, *, hint: str) -> WorkFailedError:
    """The error for a teacher with a problem of some code."""
    return WorkFailedError(message, reason=code, hint=hint)
