"""What a data-free run leaves behind: the result's facts and the files in ``result/``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file

from histill.core.manifests import (
    BFLOAT16_LOSS,
    CARD,
    GENERATORS,
    ONNX,
    SAMPLES,
    WEIGHTS,
    ModelRole,
)
from histill.core.samples import sample_side
from histill.distill.data_free import privacy
from histill.distill.data_free.card import model_card
from histill.distill.data_free.held import agreement
from histill.distill.data_free.report import render_report
from histill.distill.export import export_onnx
from histill.distill.latency import latency_ms
from histill.distill.nets import count_parameters
from histill.distill.outputs import REPORT, nobody
from histill.distill.precision import InBfloat16
from histill.distill.quantize import add_int8
from histill.distill.workdir import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt
    from torch import Tensor, nn

    from histill.distill.data_free.curves import Curves
    from histill.distill.data_free.engine import Engine
    from histill.distill.workdir import DataFreeOrder

_STORED, _STORED_BYTES = 64, 8 << 20  # samples of each generator
_SHOWN = 8  # at least
_AT_ONCE = 16  # samples of a forward pass
_CALIBRATED = 4  # one in so many samples; on the others it is measured


@dataclass(frozen=True)
class DataFreeOutcome:
    """A student, how it came about, and what made its samples.

    Attributes:
        student: The one to keep, a ``Normalized`` network.
        engine: With the generators.
        curves: Of the run.
        agreed: Agreement with the teachers on held samples, ``agreement_{kind}``, in [0, 1].
        seconds: From the first round to the last.
        rollbacks: That were needed.
        place: The device and the number of processes, in words.
    """

    student: nn.Module
    engine: Engine
    curves: Curves
    agreed: Mapping[str, float]
    seconds: float
    rollbacks: int
    place: str


def write_files(
    folder: Path,
    order: DataFreeOrder,
    outcome: DataFreeOutcome,
    *,
    quantizing: Callable[[], None] = nobody,
) -> RunResult:
    """Writes weights, ONNX files, generators, samples, card and report.

    Args:
        folder: Made when missing.
        order: What was asked for.
        outcome: The networks, moved to the CPU and into eval mode.
        quantizing: Called when the files in floats are there.

    Returns:
        What ``result.json`` says.

    Raises:
        WorkFailedError: EXPORT_MISMATCH.
    """
    folder.mkdir(parents=True, exist_ok=True)
    first = order.teachers[0]
    samples = _samples(outcome.engine)
    shown = next(iter(samples.values()))[0]
    student = outcome.student.cpu().eval()
    weights = student.net.state_dict()  # type: ignore[union-attr]
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    export_onnx(
        student,
        folder / ONNX,
        channels=first.channels,
        stride=order.spec.student.stride,
        classes=first.classes,
        samples=[shown],
        task=first.task,
    )
    measured = {
        "loss": outcome.curves.values.get("loss", [math.nan])[-1],
        **outcome.agreed,
        "training_seconds": outcome.seconds,
        "rollbacks": float(outcome.rollbacks),
        "model_bytes": float((folder / ONNX).stat().st_size),
        # Samples are of a size that the student takes as it is, and a classifier no other.
        "latency_ms": latency_ms(folder / ONNX, shown, stride=1),
    }
    if first.task == "segmentation":
        measured[BFLOAT16_LOSS] = _lost(student, _images(samples), InBfloat16(student))
        quantizing()
        measured |= add_int8(
            folder,
            [image for each in samples.values() for image in each[: len(each) // _CALIBRATED]],
            stride=order.spec.student.stride,
            lost=partial(_lost, student, _images(samples, but=_CALIBRATED)),
        )
    result = RunResult(
        role=ModelRole.STUDENT,
        channels=first.channels,
        classes=first.classes,
        normalization=first.normalization,
        parameters=count_parameters(student),
        metrics={name: value for name, value in measured.items() if math.isfinite(value)},
        image_size=sample_side(order.spec, order.teachers),
        class_shares=first.class_shares,
        privacy=privacy.inherited(order.teachers),
        # Of several teachers each may know images of another kind.
        appearance=first.appearance if len(order.teachers) == 1 else None,
    )
    np.savez_compressed(folder / SAMPLES, allow_pickle=False, **samples)
    save_file(_generators(outcome.engine), folder / GENERATORS)
    (folder / CARD).write_text(model_card(order, result, outcome), encoding="utf-8")
    (folder / REPORT).write_text(render_report(order, result, outcome), encoding="utf-8")
    return result


def _images(samples: Mapping[str, npt.NDArray[np.uint8]], *, but: int = 0) -> Tensor:
    """Of all generators, uint8 [N, C, H, W]; but for the first of each, one in so many."""
    rest = [each[len(each) // but if but else 0 :] for each in samples.values()]
    return torch.from_numpy(np.concatenate(rest)).permute(0, 3, 1, 2)


@torch.no_grad()
def _lost(student: nn.Module, images: Tensor, other: nn.Module) -> float:
    """How far a student's own answers change where another network computes them."""
    said = torch.cat([student(part.float()) for part in images.split(_AT_ONCE)])
    if not said.argmax(dim=1).any():
        return math.nan  # without foreground nothing can be lost, and nothing is known
    return 1 - agreement(other, images, said, torch.device("cpu"))


def _samples(engine: Engine) -> dict[str, npt.NDArray[np.uint8]]:
    """New samples of each generator there is, uint8 [N, H, W, C]."""
    count = max(
        _SHOWN, min(_STORED, _STORED_BYTES // engine.samples(engine.kinds[0], 2)[0].numel())
    )
    return {
        kind: np.ascontiguousarray(
            engine.samples(kind, count).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        )
        for kind in engine.kinds
    }


def _generators(engine: Engine) -> dict[str, Tensor]:
    found = {"hard": engine.hard, "simple": engine.simple}
    return {
        f"{kind}.{name}": tensor.contiguous()
        for kind, generator in found.items()
        if generator is not None
        for name, tensor in generator.cpu().state_dict().items()
    }
