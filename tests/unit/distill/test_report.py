"""The report and the card."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from histill.core.manifests import ArtifactFile, ModelRole, Normalization
from histill.core.specs import MultiTeacherSpec
from histill.distill.card import model_card
from histill.distill.evaluate import Evaluation
from histill.distill.examples import Example
from histill.distill.loop import History
from histill.distill.report import overlay, render_report
from histill.distill.workdir import RunOrder, RunResult
from histill.ml.metrics import Scores

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def order(dataset_manifest: Callable[..., Any], model_manifest: Callable[..., Any]) -> RunOrder:
    """A distillation from two teachers on a dataset with a hostile description."""
    file = ArtifactFile(path="shard-00000.tar", size=3, sha256="ab" * 32)
    return RunOrder(
        job="jobs/abc",
        attempt=2,
        spec=MultiTeacherSpec(dataset="blobs", output_model="tiny", teachers=("t1", "t2")),
        dataset=dataset_manifest(files=(file,), description="From <script>nowhere</script>."),
        teachers=(model_manifest(name="t1"), model_manifest(name="t2", version=4)),
    )


@pytest.fixture
def result() -> RunResult:
    """What came out."""
    return RunResult(
        role=ModelRole.STUDENT,
        channels=1,
        classes=("background", "blob"),
        normalization=Normalization(mean=(0.5,), std=(0.2,)),
        parameters=12345,
        metrics={"dice": 0.8765, "iou": 0.7801, "loss": 0.25},
    )


def test_the_report_stands_alone_and_tells_everything(
    order: RunOrder, result: RunResult, blob: Callable[..., Any]
) -> None:
    """One file without links: figures inside, measures, spec, digests, seed and versions."""
    examples = [Example(str(i), *blob(i)) for i in range(4)]
    masks = [e.target for e in examples if e.target is not None]
    per_image = np.array([0.9, 0.2, np.nan, 0.6])
    history = History(
        steps=[1, 2],
        terms={"loss": [1.0, 0.5]},
        teacher_weights=[[0.4, 0.6], [0.3, 0.7]],
        validation=[(1, 0.4), (2, 0.8)],
    )
    page = render_report(
        order,
        result,
        history=history,
        evaluation=Evaluation(Scores(0.8765, 0.78, 0.9), per_image, masks),
        validation=examples,
        facts={"processes": 1},
    )
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="?http', page)
    for words in ("0.8765", "t2@4", "ab" * 32, "&quot;teacher_weighting&quot;", "torch", "seed"):
        assert words in page


def test_an_overlay_tints_the_foreground_only() -> None:
    """Background pixels keep their colour, others change, also from one channel."""
    image = np.full((2, 2, 1), 100, dtype=np.uint8)
    got = overlay(image, np.array([[0, 1], [2, 0]], dtype=np.uint8))
    assert got.shape == (2, 2, 3)
    assert got[0, 0].tolist() == got[1, 1].tolist() == [100, 100, 100]
    assert got[0, 1].tolist() != [100, 100, 100]
    assert got[0, 1].tolist() != got[1, 0].tolist()


def test_the_card_names_sources_measures_and_limits(order: RunOrder, result: RunResult) -> None:
    """Who made it from what, how good it is, and what it is not for."""
    card = model_card(order, result, labeled=3, unlabeled=7)
    for words in (
        "# tiny",
        "t1@1, t2@4",
        "12,345 parameters",
        "0.8765",
        "3 training images with labels and 7 without",
        "## Intended use",
        "not a medical device",
    ):
        assert words in card
