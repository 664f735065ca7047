"""What the data-free benchmark compares and how it counts."""

from __future__ import annotations

import math
from typing import Any

import pytest

import free_arms
import free_summary
import free_tasks
from histill.distill.nets import build_network, count_parameters

EVERY = free_arms.ARMS | free_arms.SWITCHES
FREE = [name for name, arm in EVERY.items() if arm.kind == "free"]


def run(values: list[float], *, kept: float, simple: list[float] | None = None) -> dict[str, Any]:
    pairs = zip(values, simple or values, strict=True)
    looks = [
        {"step": step, "value": value, "simple": easy, "nsd": math.nan}
        for step, (value, easy) in enumerate(pairs)
    ]
    last = {"value": kept, "simple": kept, "nsd": math.nan}
    return {"looks": looks, "kept": last, "alarms": [], "seconds": 1.0}


@pytest.mark.parametrize("task", free_tasks.TASKS)
@pytest.mark.parametrize("name", FREE)
def test_arms_make_as_many_samples_and_take_as_many_steps(name: str, task: str) -> None:
    """Within the rounding of a batch; what is wide says so."""
    what, arm = free_tasks.TASKS[task](), EVERY[name]
    student = what.student.model_dump()
    ours = free_arms.free_spec(student, what.changes, arm, seed=3)
    both = free_arms.free_spec(student, what.changes, EVERY["both"], seed=3)
    assert (ours.training.steps, ours.training.seed) == (both.training.steps, 3)
    assert ours.training.student_steps == both.training.student_steps
    ratio = free_arms.passes(ours) / free_arms.passes(both)
    assert ratio > 1.2 if arm.wide else ratio == pytest.approx(1, abs=0.08)
    assert ours.student == both.student


@pytest.mark.parametrize("task", ["nuclei_fluo", "nuclei_he"])
def test_a_student_of_nuclei_has_a_quarter_of_its_teacher_at_most(task: str) -> None:
    """In parameters."""
    what = free_tasks.TASKS[task]()
    assert isinstance(what, free_tasks.Nuclei)
    teacher, student = (
        count_parameters(build_network(spec, channels=3, classes=2))
        for spec in (what.network, what.student)
    )
    assert student <= teacher / 4


def test_a_summary_tells_kept_last_best_and_what_simple_images_lost() -> None:
    """Means over seeds; the worst seed and the largest fall at the end are told too."""
    runs = [
        run([0.5, 0.9, 0.8], kept=0.9, simple=[0.6, 1.0, 0.7]),
        run([0.4, 0.6, 0.7], kept=0.7, simple=[0.6, 0.7, 0.8]),
    ]
    found = free_summary.arm_summary(runs)
    assert found["mean"] == pytest.approx(0.8)
    assert (found["worst"], found["last"], found["best"]) == pytest.approx((0.7, 0.75, 0.8))
    assert found["late_collapse"] == pytest.approx(0.1)
    assert found["simple_drop"] == pytest.approx(0.15)
    low, high = found["ci"]
    assert low < 0.7
    assert high > 0.9


def test_retention_is_a_share_of_what_the_real_data_give() -> None:
    """And the lead over each arm is paired by seed."""
    arms = {"both": [run([0.9], kept=0.9)], "real_labels": [run([1.0], kept=1.0)]}
    found = free_summary.task_summary(arms, {"value": 1.0, "nsd": math.nan})
    assert found["retention"] == pytest.approx(0.9)
    assert found["ahead"]["real_labels"][0] == pytest.approx(-0.1)
