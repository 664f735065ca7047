"""What is compared: each arm is one way of training the same student for as many steps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from histill.core.specs import (
    BoundaryWeighting,
    MultiTeacherSpec,
    NetworkSpec,
    SupervisedSpec,
    TeacherWeighting,
    TrainingSpec,
)

STUDENT = NetworkSpec(architecture="unet", width=8, depth=4)  # 41,409 parameters
TEACHER = NetworkSpec(architecture="basic_unet", width=16, depth=4)  # 483,475
WEAK = NetworkSpec(architecture="unet", width=16, depth=4)
STEPS, LEARNING_RATE = 400, 8e-3
TEACHER_RATE = 5e-3
TEACHER_STEPS, WEAK_STEPS = 450, 150
LABELED = 8  # training images of each domain whose labels the students see


def _grain(grain: str) -> TeacherWeighting:
    return TeacherWeighting.model_validate({"grain": grain})


_NONE = BoundaryWeighting(mode="none")
_UNIFORM = _grain("uniform")


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        teachers: ``none`` trains from labels alone; ``all``; ``best`` takes the single
            teacher that is best over both domains; ``oracle`` each domain's best.
        changes: Fields of the spec that differ from histill's defaults.
    """

    teachers: Literal["none", "all", "best", "oracle"]
    changes: dict[str, Any] = field(default_factory=dict)


# The peer has the weights of its paper; its feature term needs the teachers' features and
# is left out. All else is as in the other arms, so that weights are what is compared.
ARMS = {
    "labels_only": Arm("none", {"boundary": _NONE}),
    "labels_boundary": Arm("none"),
    "best_single": Arm("best", {"boundary": _NONE}),
    "uniform": Arm("all", {"boundary": _NONE, "teacher_weighting": _UNIFORM}),
    "boundary": Arm("all", {"teacher_weighting": _UNIFORM}),
    "weighting": Arm("all", {"boundary": _NONE}),
    "differential": Arm("all"),
    "ca_mkd": Arm("all", {"boundary": _NONE, "teacher_weighting": _grain("ca_mkd")}),
    "oracle": Arm("oracle"),
}
# Differential with one switch turned.
SWITCHES = {
    "overlap_off": Arm("all", {"overlap_weight": 0.0}),
    "temperature_2": Arm("all", {"temperature": 2.0}),
    "class_grain": Arm("all", {"teacher_weighting": _grain("class")}),
    "region_grain": Arm("all", {"teacher_weighting": _grain("region")}),
    "pixel_grain": Arm("all", {"teacher_weighting": _grain("pixel")}),
    "transfer_off": Arm("all", {"teacher_weighting": TeacherWeighting(unlabeled="estimate")}),
    "fuzzy_1": Arm("all", {"boundary": BoundaryWeighting(fuzzy=1.0)}),
    "edge_0.3": Arm("all", {"edge_weight": 0.3}),
    "affinity_3": Arm("all", {"affinity_weight": 3.0}),
}
SWITCH_SEEDS = 2  # each switch is one pair of runs beside the five of the arms


def teacher_spec(name: str, network: NetworkSpec, steps: int) -> SupervisedSpec:
    """A teacher's training."""
    return SupervisedSpec(
        dataset="nuclei",
        output_model=name,
        network=network,
        training=TrainingSpec(steps=steps, learning_rate=TEACHER_RATE, validations=0),
    )


def student_spec(
    name: str, arm: Arm, teachers: tuple[str, ...], seed: int
) -> SupervisedSpec | MultiTeacherSpec:
    """An arm's training from one seed."""
    shared: dict[str, Any] = {
        "dataset": "nuclei",
        "output_model": re.sub(r"[._]", "-", name),
        "training": TrainingSpec(
            steps=STEPS, learning_rate=LEARNING_RATE, seed=seed, validations=0
        ),
    }
    if not teachers:
        return SupervisedSpec(network=STUDENT, **shared, **arm.changes)
    return MultiTeacherSpec(student=STUDENT, teachers=teachers, **shared, **arm.changes)
