"""What the multi-teacher benchmark compares and how it counts."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

import pytest
from scipy import stats

import arms
import multi_teacher
import nuclei
from histill.core.specs import MultiTeacherSpec
from histill.distill.nets import build_network, count_parameters

if TYPE_CHECKING:
    from pathlib import Path

EVERY = arms.ARMS | arms.SWITCHES


@pytest.mark.parametrize("name", EVERY)
def test_arms_differ_in_what_they_say_and_nothing_else(name: str) -> None:
    """Equal student, steps, rate and seed; every other difference stands in the arm."""
    arm = EVERY[name]
    teachers = () if arm.teachers == "none" else ("a", "b", "c")
    spec = arms.student_spec(name, arm, teachers, 7)
    assert spec.network == arms.STUDENT
    assert (spec.training.steps, spec.training.seed) == (arms.STEPS, 7)
    plain = arms.student_spec("differential", arms.ARMS["differential"], ("a", "b", "c"), 7)
    if isinstance(spec, MultiTeacherSpec):
        changed = {n for n in type(spec).model_fields if getattr(spec, n) != getattr(plain, n)}
        assert changed - {"output_model"} == set(arm.changes)


def test_the_student_is_small() -> None:
    """At most 60,000 parameters."""
    net = build_network(arms.STUDENT, channels=3, classes=len(nuclei.CLASSES))
    assert count_parameters(net) <= 60_000


def test_intervals_are_students_t_over_seeds() -> None:
    """Mean and 95 % interval of each domain and of their mean, seed by seed."""
    values = {"he": [0.2, 0.3, 0.7], "fluo": [0.4, 0.5, 0.3]}
    runs = [
        {domain: dict.fromkeys(multi_teacher.MEASURES, values[domain][i]) for domain in values}
        for i in range(3)
    ]
    got = multi_teacher.summarized(runs)
    for domain, numbers in (values | {"mean": [0.3, 0.4, 0.5]}).items():
        low, high = stats.t.interval(0.95, 2, loc=sum(numbers) / 3, scale=stats.sem(numbers))
        assert got[domain]["pq"] == pytest.approx(sum(numbers) / 3)
        assert got[domain]["pq_ci95"] == pytest.approx([low, high])
        assert got[domain]["pq_seeds"] == pytest.approx(numbers)


def test_the_closed_gap_is_a_share_of_what_the_oracle_gains() -> None:
    """0 for labels alone, 1 for the oracle."""
    pq = {"labels_only": 0.4, "differential": 0.48, "oracle": 0.5}
    scores = {name: {"mean": {"pq": value}} for name, value in pq.items()}
    assert multi_teacher.gap_closed(scores) == pytest.approx(0.8)


def test_students_see_the_labels_of_eight_tiles_a_domain(data_dir: Path, tmp_path: Path) -> None:
    """The shard holds no other label of the train split, and all of the val split."""
    del data_dir
    keys = nuclei.labeled_keys(arms.LABELED, seed=3)
    assert {d: sum(k.startswith(d) for k in keys) for d in nuclei.DOMAINS} == {"he": 8, "fluo": 8}
    nuclei.write_dataset(tmp_path, nuclei.DOMAINS, labeled=keys)
    with tarfile.open(tmp_path / "shard-00000.tar") as archive:
        names = archive.getnames()
    labels = {n.removesuffix(".label.png") for n in names if n.endswith(".label.png")}
    assert {n.removeprefix("train/") for n in labels if n.startswith("train/")} == keys
    images = {n.removesuffix(".image.png") for n in names if n.endswith(".image.png")}
    assert {n for n in images if n.startswith("val/")} <= labels
