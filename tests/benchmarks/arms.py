"""What is compared: each arm is one way of training the same student for as many steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
TEACHER_STEPS, WEAK_STEPS = 450, 150
LABELED = 8  # training images of each domain whose labels the students see

_NONE = BoundaryWeighting(mode="none")
_UNIFORM = TeacherWeighting(grain="uniform")
_PUBLISHED = {"overlap_weight": 0.0}


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        teachers: Indices of the teachers; none trains from labels alone.
        changes: Fields of the spec that differ from histill's defaults.
        ablation: Whether it only tells one switch's own effect.
    """

    teachers: tuple[int, ...] | str = ()
    changes: dict[str, Any] = field(default_factory=dict)
    ablation: bool = False


# The peer with the weights of its paper and its temperature; its feature term needs the
# teachers' features and is left out.
ARMS: dict[str, Arm] = {
    "labels_only": Arm((), {"boundary": _NONE}),
    "labels_boundary": Arm(()),
    "best_single": Arm("best", {"boundary": _NONE}),
    "uniform": Arm("all", {"boundary": _NONE, "teacher_weighting": _UNIFORM}),
    "boundary": Arm("all", {"teacher_weighting": _UNIFORM}),
    "weighting": Arm("all", {"boundary": _NONE}),
    "differential": Arm("all"),
    "ca_mkd": Arm(
        "all", {"boundary": _NONE, "teacher_weighting": TeacherWeighting(grain="ca_mkd")}
    ),
    "oracle": Arm("oracle"),
}
SWITCHES: dict[str, Arm] = {
    "without_overlap": Arm("all", {"overlap_weight": 0.0}, ablation=True),
}


def teacher_spec(name: str, network: NetworkSpec, steps: int) -> SupervisedSpec:
    """A teacher's training."""
    return SupervisedSpec(
        dataset="nuclei",
        output_model=name,
        network=network,
        training=TrainingSpec(steps=steps, validations=0),
    )


def student_spec(
    name: str, arm: Arm, teachers: tuple[str, ...], seed: int
) -> SupervisedSpec | MultiTeacherSpec:
    """An arm's training from one seed."""
    shared: dict[str, Any] = {
        "dataset": "nuclei",
        "output_model": name.replace("_", "-"),
        "training": TrainingSpec(
            steps=STEPS, learning_rate=LEARNING_RATE, seed=seed, validations=0
        ),
    }
    if not teachers:
        return SupervisedSpec(network=STUDENT, **shared, **arm.changes)
    return MultiTeacherSpec(student=STUDENT, teachers=teachers, **shared, **arm.changes)
