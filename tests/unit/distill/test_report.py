"""The report and the card."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from histill.core.manifests import INT8_LOSS, ArtifactFile, ModelRole, Normalization
from histill.core.specs import MultiTeacherSpec, SupervisedSpec, TrainingSpec
from histill.distill.calibration import PixelSample
from histill.distill.card import model_card
from histill.distill.evaluate import Evaluation
from histill.distill.examples import Example
from histill.distill.history import History
from histill.distill.report import render_report
from histill.distill.report_examples import choose
from histill.distill.workdir import RunOrder, RunResult
from histill.ml.metrics import Scores
from histill.ml.panoptic import Panoptic

if TYPE_CHECKING:
    from collections.abc import Callable

    Blob = Callable[..., Any]

HOSTILE = '<script>alert("x")</script> $\\frac{$ | `'


class Reading(HTMLParser):
    """Collects tags, the attributes of images, and headings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.headings: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        if self._inside == "h2" and data.strip():
            self.headings.append(data)


@pytest.fixture
def order(dataset_manifest: Callable[..., Any], model_manifest: Callable[..., Any]) -> RunOrder:
    """A distillation from two teachers, one a program, on a dataset of hostile words."""
    files = [
        (ArtifactFile(path=name, size=3, sha256=digest * 32),)
        for name, digest in (("shard-00000.tar", "ab"), ("w.safetensors", "cd"), ("model.ts", "ef"))
    ]
    return RunOrder(
        job="jobs/abc",
        attempt=2,
        spec=MultiTeacherSpec(dataset="blobs", output_model="tiny", teachers=("t1", "t2")),
        dataset=dataset_manifest(files=files[0], description=HOSTILE),
        teachers=(
            model_manifest(name="t1", files=files[1], metrics={"dice": 0.7654}),
            model_manifest(name="t2", version=4, network=None, files=files[2]),
        ),
    )


@pytest.fixture
def result() -> RunResult:
    """What came out."""
    return RunResult(
        role=ModelRole.STUDENT,
        channels=1,
        classes=("background", HOSTILE),
        normalization=Normalization(mean=(0.5,), std=(0.2,)),
        parameters=12345,
        metrics={
            "dice": 0.8765,
            "iou": 0.7801,
            "hd95": 3.25,
            "pq": 0.5151,
            "loss": 0.25,
            "latency_ms": 12.34,
            "model_bytes": 488_211.0,
            "training_seconds": 200.0,
        },
    )


@pytest.fixture
def evaluation(blob: Blob) -> Evaluation:
    """Of four images, one of them without any foreground."""
    masks = [blob(i)[1] for i in range(4)]
    sample = PixelSample(images=1, classes=2)
    sample.add(np.stack([1 - masks[0], masks[0]]).astype(np.float32), masks[0])
    return Evaluation(
        Scores(0.8765, 0.78, 0.9),
        np.array([0.9, 0.2, np.nan, 0.6]),
        masks,
        by_class=[Scores(0.8765, 0.78, float("nan"))],
        confusion=np.array([[3000, 40], [56, 1000]]),
        misses=3,
        panoptic=Panoptic(5, 2, 1, 4.0),
        calibration=sample.calibrate(),
    )


@pytest.fixture
def render(
    order: RunOrder, result: RunResult, evaluation: Evaluation, blob: Blob
) -> Callable[..., str]:
    """Renders the report, with parts of it changed."""
    history = History(
        steps=[1, 2],
        terms={"loss": [1.0, 0.5]},
        teacher_weights=[[0.4, 0.6], [0.3, 0.7]],
        validation=[(1, 0.4), (2, 0.8)],
    )
    given: dict[str, Any] = {
        "order": order,
        "result": result,
        "history": history,
        "evaluation": evaluation,
        "validation": [Example(f"{i}{HOSTILE}", *blob(i)) for i in range(4)],
        "facts": {"stopped early": f"at step 2 {HOSTILE}"},
    }

    def make(**changes: Any) -> str:
        parts = given | changes
        return render_report(parts.pop("order"), parts.pop("result"), **parts)

    return make


def test_the_report_has_every_section(render: Callable[..., str]) -> None:
    """Measures to versions, each under its heading."""
    assert Reading(render()).headings == [
        "Measures",
        "Classes",
        "Training",
        "Teachers",
        "Examples",
        "Confusion",
        "Calibration",
        "Size and speed",
        "Circumstances",
        "Specification",
        "Sources",
        "Versions",
    ]


def test_the_report_tells_everything(render: Callable[..., str]) -> None:
    """Measures, teachers, size, speed, time, digests, specification, facts and versions."""
    page = render()
    for words in (
        "0.8765",
        "3.25 px",
        "0.5151",
        "5 found, 1 missed, 2 extra",
        "t2@4",
        "TorchScript program",
        "0.7654",
        "12,345",
        "488 kB (488,211 bytes)",
        "12.3 ms",
        "3 min 20 s",
        "ab" * 32,
        "cd" * 32,
        "ef" * 32,
        "&quot;teacher_weighting&quot;",
        "stopped early",
        "jobs/abc, attempt 2",
        "onnxruntime",
    ):
        assert words in page


def test_the_report_stands_alone(render: Callable[..., str]) -> None:
    """No script and no link to elsewhere; every picture is inside and has words for it."""
    page = render()
    seen = Reading(page)
    assert not seen.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r'(src|href)="(?!data:image/|#)', page)
    # Two curves, the weights, three rows of four, the confusion, the reliability.
    assert len(seen.images) == 2 + 1 + 12 + 1 + 1
    assert all(len(image["alt"] or "") > 10 for image in seen.images)


def test_foreign_words_stay_words(render: Callable[..., str]) -> None:
    """Names, keys, facts and descriptions with markup in them are shown, not obeyed."""
    page = render()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 5
    drawn = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)
    assert all(b"<script>" not in base64.b64decode(data) for data in drawn)


def test_a_baseline_has_no_teachers(
    render: Callable[..., str], order: RunOrder, result: RunResult
) -> None:
    """Without teachers there is no section about them."""
    spec = SupervisedSpec(dataset="blobs", output_model="tiny")
    alone = order.model_copy(update={"spec": spec, "teachers": ()})
    page = render(order=alone, history=History([1], {"loss": [1.0]}, [[]], []), result=result)
    assert "Teachers" not in Reading(page).headings
    assert "trained from labels" in page


def test_a_report_of_nothing_found_can_be_written(
    render: Callable[..., str], evaluation: Evaluation
) -> None:
    """No foreground, no calibration, a class that never occurs: still a report."""
    empty = Evaluation(
        Scores(*[float("nan")] * 3),
        np.full(4, np.nan),
        evaluation.masks,
        by_class=[Scores(*[float("nan")] * 3)],
        confusion=np.array([[10, 0], [0, 0]]),
    )
    page = render(evaluation=empty)
    assert "No validation image holds any foreground" in page
    assert "Calibration" not in Reading(page).headings


def test_many_classes_and_teachers_fit(
    render: Callable[..., str], evaluation: Evaluation, result: RunResult
) -> None:
    """Forty classes, in a script that the font lacks, are drawn without numbers in the cells."""
    names = ("background", *(f"核{i}" for i in range(39)))
    many = Evaluation(
        evaluation.scores,
        evaluation.per_image,
        evaluation.masks,
        by_class=[Scores(0.5, 0.4, 0.6)] * 39,
        confusion=np.eye(40, dtype=np.int64),
    )
    assert "核38" in render(evaluation=many, result=result.model_copy(update={"classes": names}))


def test_each_image_is_shown_once() -> None:
    """Best, median and worst by Dice; of two images there are two, of none none."""
    assert choose(np.array([0.9, 0.2, np.nan, 0.6])) == {"Best": 0, "Median": 3, "Worst": 1}
    assert choose(np.array([0.1, 0.2])) == {"Best": 1, "Worst": 0}
    assert choose(np.array([np.nan])) == {}


def test_the_card_tells_everything(
    order: RunOrder, result: RunResult, evaluation: Evaluation
) -> None:
    """Who made it from what, how good it is, what it is for and not for, how it is used."""
    card = model_card(order, result, evaluation=evaluation, labeled=3, unlabeled=7)
    for words in (
        "# tiny",
        "## Model",
        "## Data",
        "## Training",
        "## Teachers",
        "## Measures",
        "## Calibration",
        "## Intended use",
        "## Limits",
        "## How to use",
        "## Reproducibility",
        "t1@1, t2@4",
        "TorchScript",
        "12,345 parameters",
        "0.8765",
        "488 kB",
        "3 training images with labels and 7 without",
        "expected calibration error",
        "not a medical device",
        "histill segment image.png --model tiny",
        '"seed": 0',
    ):
        assert words in card


@pytest.mark.parametrize(("lost", "told"), [(0.0012, True), (0.0031, False)])
def test_the_card_tells_of_bytes_where_they_are_there(
    order: RunOrder, result: RunResult, evaluation: Evaluation, *, lost: float, told: bool
) -> None:
    """What the second file is, and what it loses."""
    result = result.model_copy(update={"metrics": result.metrics | {INT8_LOSS: lost}})
    card = model_card(order, result, evaluation=evaluation, labeled=3, unlabeled=7)
    assert (
        f"`model.int8.onnx` is its copy in 8-bit integers, for CPUs; it was found to lose "
        f"{lost:.4f} Dice." in card
    ) is told


def test_foreign_words_in_a_card_stay_words(
    order: RunOrder, result: RunResult, evaluation: Evaluation
) -> None:
    """Markup in names and descriptions is escaped, and tables keep their columns."""
    card = model_card(order, result, evaluation=evaluation, labeled=3, unlabeled=7)
    assert "<script" not in card
    row = next(line for line in card.splitlines() if line.startswith("| &lt;script"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5


@pytest.mark.parametrize(("patience", "words"), [(0, "played no part"), (3, "too good")])
def test_what_validation_images_were_used_for_is_told(
    patience: int,
    words: str,
    order: RunOrder,
    result: RunResult,
    evaluation: Evaluation,
    render: Callable[..., str],
) -> None:
    """With patience the weights were chosen on them, and card and report say so."""
    training = TrainingSpec(patience=patience)
    changed = order.model_copy(
        update={"spec": order.spec.model_copy(update={"training": training})}
    )
    assert words in model_card(changed, result, evaluation=evaluation, labeled=3, unlabeled=7)
    assert words in render(order=changed)


def test_the_weights_that_were_kept_are_told(render: Callable[..., str], order: RunOrder) -> None:
    """Early stopping and averaging are facts of the report."""
    training = TrainingSpec(steps=100, patience=2, ema_decay=0.99)
    spec = order.spec.model_copy(update={"training": training})
    history = History([1, 60], {"loss": [1.0, 0.5]}, [[0.4, 0.6]] * 2, [(30, 0.8), (60, 0.7)], 30)
    page = render(order=order.model_copy(update={"spec": spec}), history=history)
    assert "of step 30, the best in validation, ended early, about step 60" in page
    assert "exponential average, decay 0.99" in page
    assert "of the last of 300 steps" in render()
