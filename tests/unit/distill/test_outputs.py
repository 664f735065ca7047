"""What a run leaves behind."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from histill.core.manifests import LabelKind, ModelManifest, Normalization
from histill.core.specs import NetworkSpec, SupervisedSpec
from histill.distill import outputs
from histill.distill import quantize as quantizing
from histill.distill.dataset import Dataset
from histill.distill.evaluate import evaluate
from histill.distill.examples import Example
from histill.distill.history import History
from histill.distill.nets import build_network
from histill.distill.outputs import Outcome, describe, write_files
from histill.distill.predict import Normalized, Predictor
from histill.distill.workdir import RunOrder, made_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def run(
    blob: Callable[..., Any], dataset_manifest: Callable[..., Any]
) -> tuple[RunOrder, Dataset, Outcome]:
    """A run that ended at once, on numbered objects."""
    network = NetworkSpec(width=4, depth=2)
    normalization = Normalization(mean=(0.5,), std=(0.25,))
    torch.manual_seed(0)
    net = Normalized(build_network(network, channels=1, classes=2), normalization)
    examples = [Example(str(i), *blob(i)) for i in range(3)]
    order = RunOrder(
        job="jobs/1",
        attempt=1,
        spec=SupervisedSpec(dataset="blobs", output_model="m", network=network),
        dataset=dataset_manifest(label_kind=LabelKind.INSTANCE),
    )
    predictor = Predictor(net, network.stride, torch.device("cpu"))
    outcome = Outcome(
        lost_in_bfloat16=0.001,
        net=net,
        history=History([1], {"loss": [0.5]}, [[]], [(1, 0.5)]),
        evaluation=evaluate(predictor, examples, classes=2, objects=True),
        seconds=3.0,
        restarts=0,
        place="cpu",
        facts={"weights": "of the last step"},
    )
    return order, Dataset(examples[:1], examples, normalization), outcome


def test_the_result_holds_every_measure(run: tuple[RunOrder, Dataset, Outcome]) -> None:
    """Means, each class, distance, objects and calibration, all of them finite."""
    metrics = describe(*run).metrics
    assert set(metrics) == {
        "dice", "iou", "nsd2", "dice:blob", "nsd2:blob", "hd95", "pq", "ece", "temperature",
        "loss", "training_seconds", "dice_lost_in_bfloat16",
    }  # fmt: skip
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["dice:blob"] == pytest.approx(metrics["dice"])


def test_size_and_speed_are_those_of_the_written_file(
    run: tuple[RunOrder, Dataset, Outcome], tmp_path: Path
) -> None:
    """The result that is handed back knows the ONNX file; card and report are beside it."""
    result = write_files(tmp_path, *run, describe(*run))
    assert result.metrics["model_bytes"] == (tmp_path / "model.onnx").stat().st_size
    assert result.metrics["latency_ms"] > 0
    report, card = ((tmp_path / name).read_text() for name in ("report.html", "card.md"))
    assert "of the last step" in report
    assert "as ONNX" in card


def test_a_student_in_bytes_lies_beside_where_it_is_as_good(
    run: tuple[RunOrder, Dataset, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it loses on validation images is among the metrics, also where it is not kept."""
    result = write_files(tmp_path / "kept", *run, describe(*run))
    lost = result.metrics["dice_lost_in_int8"]
    assert abs(lost) < 0.1
    monkeypatch.setattr(quantizing, "MOST_LOST", lost)
    write_files(tmp_path / "kept", *run, describe(*run))
    assert (tmp_path / "kept" / "model.int8.onnx").exists()
    monkeypatch.setattr(quantizing, "MOST_LOST", lost - 1e-6)
    result = write_files(tmp_path / "left", *run, describe(*run))
    assert result.metrics["dice_lost_in_int8"] == lost
    assert not (tmp_path / "left" / "model.int8.onnx").exists()


def test_the_loss_is_measured_on_a_part_of_many_images(
    run: tuple[RunOrder, Dataset, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network itself loses nothing against its own masks, on one image or on all."""
    order, dataset, outcome = run
    net = outcome.net.cpu().eval()
    for pixels in (1, 2 * 32 * 32, 1 << 22):
        monkeypatch.setattr(outputs, "_INT8_PIXELS", pixels)
        assert outputs._lost(order, dataset, outcome.evaluation, net) == 0


def test_the_result_tells_what_it_was_trained_on(
    run: tuple[RunOrder, Dataset, Outcome], blob: Callable[..., Any]
) -> None:
    """Crop size and shares of the classes, of labelled images alone, reach the manifest."""
    order, dataset, outcome = run
    unlabeled = Example("x", blob(7)[0], None)
    dataset = replace(dataset, training=[*dataset.training, unlabeled])
    result = describe(order, dataset, outcome)
    assert result.image_size == 128
    share = float(np.mean(blob(0)[1]))
    assert result.class_shares == {"blob": pytest.approx(share, abs=5e-5)}
    made = made_manifest(order, result, [], create_time=datetime(2026, 1, 1, tzinfo=UTC))
    assert isinstance(made, ModelManifest)
    assert (made.task, made.image_size, made.class_shares) == (
        "segmentation", 128, result.class_shares
    )  # fmt: skip


def test_norms_without_memory_leave_their_statistics(
    run: tuple[RunOrder, Dataset, Outcome], tmp_path: Path
) -> None:
    """A file beside the weights, under the layers' names; batch norms need none."""
    order, dataset, outcome = run
    write_files(tmp_path / "batch", *run, describe(*run))
    assert not (tmp_path / "batch" / "statistics.safetensors").exists()
    spec = order.spec.model_copy(update={"network": NetworkSpec(width=4, depth=2, norm="instance")})
    order = order.model_copy(update={"spec": spec})
    net = Normalized(build_network(spec.network, channels=1, classes=2), dataset.normalization)
    outcome = replace(outcome, net=net)
    write_files(tmp_path, order, dataset, outcome, describe(order, dataset, outcome))
    names = set(load_file(tmp_path / "statistics.safetensors"))
    assert {"model.0.adn.N.mean", "model.0.adn.N.var"} <= names
