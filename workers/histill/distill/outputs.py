"""What a run leaves behind: the result's facts and the files in ``result/``."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file

from histill.core.manifests import (
    BFLOAT16_LOSS,
    CARD,
    ONNX,
    STATISTICS,
    WEIGHTS,
    ModelRole,
)
from histill.core.specs import MultiTeacherSpec
from histill.distill.card import model_card
from histill.distill.data import whole_strides
from histill.distill.evaluate import evaluate
from histill.distill.export import export_onnx
from histill.distill.latency import latency_ms
from histill.distill.nets import count_parameters
from histill.distill.predict import Predictor
from histill.distill.quantize import add_int8
from histill.distill.recorded import record_statistics
from histill.distill.report import render_report
from histill.distill.workdir import RunResult
from histill.ml.appearance import appearance_of
from histill.ml.metrics import score_image, summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from histill.distill.dataset import Dataset
    from histill.distill.evaluate import Evaluation
    from histill.distill.history import History
    from histill.distill.predict import Normalized
    from histill.distill.workdir import RunOrder

REPORT = "report.html"
_EXPORT_SAMPLES = 1  # real images on which the export is compared
_SHARE_DIGITS = 4
_INT8_PIXELS = 1 << 22  # of validation images on which its loss is measured


@dataclass(frozen=True)
class Outcome:
    """A trained network and how it came about.

    Attributes:
        net: Trained.
        history: Its curves.
        evaluation: Its scores and masks on the validation images.
        lost_in_bfloat16: Dice that it loses by computing in bfloat16.
        seconds: From the first teacher's prediction to the last score.
        restarts: After dead starts.
        place: The device and the number of processes, in words.
        facts: Further lines for the report, e.g. how the weights were chosen.
    """

    net: Normalized
    history: History
    evaluation: Evaluation
    lost_in_bfloat16: float
    seconds: float
    restarts: int
    place: str
    facts: Mapping[str, object] = field(default_factory=dict)


def describe(order: RunOrder, dataset: Dataset, outcome: Outcome) -> RunResult:
    """What ``result.json`` says, but for what is only known of the written files."""
    measured = _measured(outcome.evaluation, order.dataset.classes[1:]) | {
        "loss": outcome.history.terms["loss"][-1],
        "training_seconds": outcome.seconds,
        BFLOAT16_LOSS: outcome.lost_in_bfloat16,
    }
    distilled = isinstance(order.spec, MultiTeacherSpec)
    return RunResult(
        role=ModelRole.STUDENT if distilled else ModelRole.TEACHER,
        channels=order.dataset.channels,
        classes=order.dataset.classes,
        normalization=dataset.normalization,
        parameters=count_parameters(outcome.net.net),
        # A measure is NaN when no validation image has foreground; JSON has no NaN.
        metrics={name: value for name, value in measured.items() if math.isfinite(value)},
        image_size=whole_strides(order.spec.training.crop_size, order.spec.network.stride),
        class_shares=_class_shares(dataset, order.dataset.classes),
        appearance=appearance_of(
            [example.image for example in dataset.training],
            [example.image for example in dataset.validation],
        ),
    )


def _class_shares(dataset: Dataset, classes: Sequence[str]) -> dict[str, float]:
    """Of each foreground class in the pixels of all labelled training images together."""
    counts = np.zeros(len(classes))
    for example in dataset.training:
        if example.target is not None:
            counts += np.bincount(example.target.ravel(), minlength=len(classes))
    shares = counts / max(1.0, counts.sum())
    return {
        name: round(float(share), _SHARE_DIGITS)
        for name, share in zip(classes[1:], shares[1:], strict=True)
    }


def _measured(evaluation: Evaluation, foreground: Sequence[str]) -> dict[str, float]:
    scores, found = evaluation.scores, evaluation.calibration
    measured = {"dice": scores.dice, "iou": scores.iou, "nsd2": scores.nsd2}
    for name, one in zip(foreground, evaluation.by_class, strict=True):
        measured |= {f"dice:{name}": one.dice, f"nsd2:{name}": one.nsd2}
    measured["hd95"] = evaluation.hd95
    if evaluation.panoptic:
        measured["pq"] = evaluation.panoptic.pq
    if found:
        measured |= {"ece": found.before.ece, "temperature": found.temperature}
    return measured


def nobody() -> None:
    """Is told, and does nothing."""


def write_files(
    folder: Path,
    order: RunOrder,
    dataset: Dataset,
    outcome: Outcome,
    result: RunResult,
    *,
    quantizing: Callable[[], None] = nobody,
) -> RunResult:
    """Writes weights, statistics where the norms keep none, ONNX files, card and report.

    Args:
        folder: Made when missing.
        order: What was asked for.
        dataset: What it was trained and measured on.
        outcome: The network, moved to the CPU and into eval mode.
        result: Of ``describe``.
        quantizing: Called when the files in floats are there.

    Returns:
        The result with the size and speed of the ONNX file, and what it loses in 8-bit
        integers: what ``result.json`` says.

    Raises:
        WorkFailedError: EXPORT_MISMATCH.
    """
    folder.mkdir(parents=True, exist_ok=True)
    seen = [example.image for example in dataset.training if example.target is not None]
    # Where it was trained: whole images are many pixels.
    statistics = record_statistics(outcome.net, seen, order.spec.network.stride)
    net = outcome.net.cpu().eval()
    save_file({k: v.contiguous() for k, v in net.net.state_dict().items()}, folder / WEIGHTS)
    if statistics:
        save_file(statistics, folder / STATISTICS)
    export_onnx(
        net,
        folder / ONNX,
        channels=result.channels,
        stride=order.spec.network.stride,
        classes=result.classes,
        samples=[example.image for example in dataset.validation[:_EXPORT_SAMPLES]],
    )
    result = _weighed(folder / ONNX, dataset, result, stride=order.spec.network.stride)
    quantizing()
    lost = add_int8(
        folder,
        [example.image for example in dataset.training],
        stride=order.spec.network.stride,
        lost=partial(_lost, order, dataset, outcome.evaluation),
    )
    result = result.model_copy(update={"metrics": result.metrics | lost})
    labeled = sum(example.target is not None for example in dataset.training)
    unlabeled = len(dataset.training) - labeled if order.teachers else 0
    card = model_card(
        order, result, evaluation=outcome.evaluation, labeled=labeled, unlabeled=unlabeled
    )
    (folder / CARD).write_text(card, encoding="utf-8")
    report = render_report(
        order,
        result,
        history=outcome.history,
        evaluation=outcome.evaluation,
        validation=dataset.validation,
        facts={
            "training images with labels": labeled,
            "training images without": unlabeled,
            "validation images": len(dataset.validation),
            "restarts after a dead start": outcome.restarts,
            "trained on": outcome.place,
            **outcome.facts,
        },
    )
    (folder / REPORT).write_text(report, encoding="utf-8")
    return result


def _weighed(path: Path, dataset: Dataset, result: RunResult, *, stride: int) -> RunResult:
    weighed = {"model_bytes": float(path.stat().st_size)}
    if dataset.validation:
        weighed["latency_ms"] = latency_ms(path, dataset.validation[0].image, stride=stride)
    return result.model_copy(update={"metrics": result.metrics | weighed})


def _lost(order: RunOrder, dataset: Dataset, evaluation: Evaluation, net: nn.Module) -> float:
    """Dice that another network on the CPU loses against the trained one."""
    labeled = [example for example in dataset.validation if example.target is not None]
    sizes = np.cumsum([example.image.shape[0] * example.image.shape[1] for example in labeled])
    some = labeled[: 1 + int(np.searchsorted(sizes, _INT8_PIXELS))]
    classes = len(order.dataset.classes)
    trained = [
        score_image(mask, example.target, classes=classes, surfaces=False)
        for mask, example in zip(evaluation.masks, some, strict=False)
        if example.target is not None
    ]
    predictor = Predictor(net, order.spec.network.stride, torch.device("cpu"))
    other = evaluate(predictor, some, classes=classes, surfaces=False)
    return summarize(trained).dice - other.scores.dice
