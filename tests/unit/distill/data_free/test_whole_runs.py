"""A whole job in a work folder: what it leaves behind."""

from __future__ import annotations

import html
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

import manifests
from histill.core.errors import WorkFailedError
from histill.core.manifests import (
    INT8_LOSS,
    MOST_LOST,
    DifferentialPrivacy,
    ModelRole,
    Normalization,
)
from histill.distill.data_free import privacy
from histill.distill.data_free.run import DataFreeRun
from histill.distill.devices import Place
from histill.distill.nets import build_network
from histill.distill.predict import Normalized
from histill.distill.progress import Reporter
from histill.distill.workdir import DataFreeOrder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from histill.distill.workdir import RunResult, Workdir

    Write = Callable[..., Workdir]

TASKS = ["segmentation", "classification"]
SIDES = {"segmentation": 16, "classification": 32}


def begun(workdir: Workdir, place: Place, **changes: Any) -> DataFreeRun:
    """The run of a work folder's order, perhaps changed."""
    order = workdir.read_order()
    assert isinstance(order, DataFreeOrder)
    return DataFreeRun(workdir, order.model_copy(update=changes), place, Reporter(None))


def execute(workdir: Workdir, place: Place) -> RunResult:
    result = begun(workdir, place).execute()
    assert result is not None
    return result


def texts(page: str) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_a_whole_student(
    task: str, write_work: Write, place: Place, tmp_path: Path
) -> None:
    """Weights and ONNX that agree, samples, generators, card, report, and the facts."""
    workdir = write_work(tmp_path, task, keep_generators=True)
    order = workdir.read_order()
    result = execute(workdir, place)
    expected = {
        "weights.safetensors", "model.onnx", "card.md", "report.html", "samples.npz",
        "generators.safetensors",
    }  # fmt: skip
    if task == "classification":
        assert INT8_LOSS not in result.metrics
    elif result.metrics.get(INT8_LOSS, math.inf) <= MOST_LOST:
        expected.add("model.int8.onnx")
    assert {path.name for path in workdir.result.iterdir()} == expected
    teacher, side = order.teachers[0], SIDES[task]
    net = build_network(order.spec.network, channels=1, classes=len(teacher.classes))
    net.load_state_dict(load_file(workdir.result / "weights.safetensors"))
    assert result.role is ModelRole.STUDENT
    assert (result.channels, result.classes) == (1, teacher.classes)
    assert result.normalization == teacher.normalization
    assert result.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert result.image_size == side
    assert result.class_shares == teacher.class_shares
    assert result.metrics["model_bytes"] == (workdir.result / "model.onnx").stat().st_size
    assert {"loss", "training_seconds", "rollbacks", "latency_ms"} <= result.metrics.keys()
    for kind in ("hard", "simple"):
        assert 0 <= result.metrics[f"agreement_{kind}"] <= 1
    with np.load(workdir.result / "samples.npz") as samples:
        assert set(samples) == {"hard", "simple"}
        for images in samples.values():
            assert (images.dtype, images.shape) == (np.uint8, (64, side, side, 1))
            assert images.std() > 5
        images = samples["hard"][:5]
    generators = load_file(workdir.result / "generators.safetensors")
    assert {name.partition(".")[0] for name in generators} == {"hard", "simple"}
    session = onnxruntime.InferenceSession(workdir.result / "model.onnx")
    probabilities = session.run(["probabilities"], {"image": images})[0]
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        logits = Normalized(net, teacher.normalization).eval()(batch)
    np.testing.assert_allclose(probabilities, logits.softmax(dim=1).numpy(), atol=1e-3)


@pytest.mark.parametrize("task", TASKS)
def test_card_and_report_tell_of_privacy(
    task: str, write_work: Write, place: Place, tmp_path: Path
) -> None:
    """What was read, what is guaranteed, how to check it; every text is escaped."""
    workdir = write_work(tmp_path, task)
    execute(workdir, place)
    page = (workdir.result / "report.html").read_text()
    card = (workdir.result / "card.md").read_text()
    seen = texts(page)
    for text in (seen, card):
        assert "no dataset was named, fetched or opened" in text
        assert "No formal guarantee." in text
        assert "teacher@1" in text
    assert "histill privacy neighbours j1 --folder TRAINING_IMAGES" in seen
    assert "histill privacy audit m --members TRAINING_IMAGES" in seen
    assert "kept with the job, and deleted with it" in seen
    for name in ("G1, difficult", "G2, simple"):
        assert f"Step 8: {name}" in seen
    assert page.count("<img") >= 2 * 4
    assert "<b>" not in page
    assert page.count("data:image/jpeg;base64,") >= 4
    assert "http://" not in re.sub(r"http://www\.w3\.org\S*", "", page)
    if task == "classification":
        assert "Teachers: " in seen
        assert html.escape("<b>&lesion</b>") in page or "Teachers: c" in seen
        assert "one of 4 classes an image" in card
    else:
        assert "one of 2 classes a pixel" in card
    assert "Agreement is no accuracy" in card
    assert "<b>" not in card


@pytest.mark.parametrize("mode", ["hard", "simple"])
def test_a_single_generator_leaves_its_own_samples(
    mode: str, write_work: Write, place: Place, tmp_path: Path
) -> None:
    """And nothing of the other one: no samples, no measure, no picture."""
    workdir = write_work(tmp_path, generators={"mode": mode})
    result = execute(workdir, place)
    other = {"hard": "simple", "simple": "hard"}[mode]
    with np.load(workdir.result / "samples.npz") as samples:
        assert list(samples) == [mode]
    assert f"agreement_{mode}" in result.metrics
    assert f"agreement_{other}" not in result.metrics
    names = {"hard": "G1, difficult", "simple": "G2, simple"}
    seen = texts((workdir.result / "report.html").read_text())
    assert f"Step 8: {names[mode]}" in seen
    assert names[other] not in seen


def test_two_runs_of_one_order_make_the_same_student(
    write_work: Write, place: Place, tmp_path: Path
) -> None:
    """Bit for bit; another seed makes another one."""
    made: list[dict[str, torch.Tensor]] = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        workdir = write_work(tmp_path / name, training={"seed": seed})
        torch.manual_seed(len(made))
        made.append(begun(workdir, place).distillation().run().state_dict())
    first, second, third = made
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert not all(torch.equal(tensor, third[name]) for name, tensor in first.items())


def test_only_the_first_process_writes(write_work: Write, tmp_path: Path) -> None:
    """The others leave no result."""
    workdir, cpu = write_work(tmp_path), torch.device("cpu")
    assert begun(workdir, Place(cpu, rank=1)).execute() is None
    assert not workdir.result.exists()


def test_all_processes_have_the_same_weights_and_other_noise(
    write_work: Write, tmp_path: Path
) -> None:
    """They learn as one, from samples of their own."""
    workdir, cpu = write_work(tmp_path), torch.device("cpu")
    states, samples = [], []
    for rank in (0, 1):
        engine = begun(workdir, Place(cpu, rank=rank, world=2)).distillation().engine
        states.append([t for net in engine._nets() for t in net.state_dict().values()])
        samples.append(engine.samples("hard", 4))
    assert all(map(torch.equal, *states))
    assert not torch.equal(*samples)


def test_samples_start_from_the_teachers_mean_and_the_orders_shares(
    write_work: Write, place: Place, tmp_path: Path
) -> None:
    """Its normalisation and its manifest are all that is known; the spec goes before it."""
    workdir = write_work(tmp_path)
    order = workdir.read_order()
    dark = Normalization(mean=(0.1,), std=(0.25,))
    teacher = order.teachers[0].model_copy(update={"normalization": dark})
    engine = begun(workdir, place, teachers=(teacher,)).distillation().engine
    assert 5 < engine.samples("hard", 16).mean() < 60
    assert engine.bounds is not None
    assert engine.bounds[0][1].item() == pytest.approx(0.2)
    spec = order.spec.model_copy(update={"class_shares": {teacher.classes[1]: 0.05}})
    engine = begun(workdir, place, spec=spec).distillation().engine
    assert engine.bounds is not None
    assert engine.bounds[0][1].item() == pytest.approx(0.05)


def test_a_teacher_that_cannot_be_read_fails_the_job(
    write_work: Write, place: Place, tmp_path: Path
) -> None:
    """As TEACHER_MISMATCH, before anything is trained."""
    workdir = write_work(tmp_path)
    (workdir.teacher(0) / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(WorkFailedError, match="teacher@1") as caught:
        execute(workdir, place)
    assert caught.value.reason == "TEACHER_MISMATCH"


def private(*budgets: tuple[float, float] | None) -> list[Any]:
    guarantees = [b and DifferentialPrivacy(epsilon=b[0], delta=b[1]) for b in budgets]
    return [manifests.model(version=i + 1, privacy=g) for i, g in enumerate(guarantees)]


def test_a_guarantee_is_inherited_from_all_teachers_or_from_none() -> None:
    """Their budgets add up; one teacher without a guarantee leaves none."""
    alone = privacy.guarantee(private((3.0, 1e-5)))
    assert "Differential privacy with epsilon 3 and delta 1e-05" in alone
    both = privacy.guarantee(private((3.0, 1e-5), (0.5, 0.0)))
    assert "epsilon 3.5 and delta 1e-05" in both
    assert "No formal guarantee" in privacy.guarantee(private((3.0, 1e-5), None))
    touched = privacy.touched(private(None, None))
    assert "teacher@1, teacher@2, and nothing else" in touched
