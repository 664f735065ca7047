"""What is compared without data: each arm is one way of making the student's samples.

All arms have the same student, as many steps of it, and as many forward passes of
generators. An arm without a memory spends its passes on new samples alone, so that its
batches are smaller; ``*_wide`` gives it full batches and as many more passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from histill.core.specs import DataFreeSpec


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        kind: ``labels`` and ``kd`` see the real data; ``free`` does not.
        changes: Fields of the task's data-free spec that differ.
        wide: Full batches although there is no memory.
    """

    kind: Literal["labels", "kd", "free"] = "free"
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    wide: bool = False


_BARE = {"memory": 0, "memory_share": 0.0, "blending": 0.0, "rule": "fixed"}
# After the published methods: one generator, its own loss and nothing else; nobody looks
# after it. DAFL's term on activations is left out, and entropy is its one-hot term.
_DFAD: dict[str, dict[str, Any]] = {
    "training": {"rollbacks": 0, "ema_decay": 0.0},
    "generators": {
        "mode": "hard", "statistics_weight": 0.0, "balance_weight": 0.0, "warmup": 0.0,
        "adversarial_weight": 1.0,
    },
    "samples": _BARE,
}  # fmt: skip
_DAFL: dict[str, dict[str, Any]] = {
    "training": {"rollbacks": 0, "ema_decay": 0.0},
    "generators": {"mode": "simple", "statistics_weight": 0.0},
    "samples": _BARE,
}

ARMS = {
    "real_labels": Arm("labels"),
    "real_kd": Arm("kd"),
    "dfad": Arm(changes=_DFAD),
    "dafl": Arm(changes=_DAFL),
    "g1": Arm(changes={"generators": {"mode": "hard"}}),
    "g2": Arm(changes={"generators": {"mode": "simple"}}),
    "separate": Arm(changes={"generators": {"mode": "separate"}}),
    "both": Arm(),
}
# Both generators, the default, with one switch turned.
SWITCHES = {
    "dfad_wide": Arm(changes=_DFAD, wide=True),
    "dafl_wide": Arm(changes=_DAFL, wide=True),
    "memory_off_wide": Arm(changes={"samples": _BARE}, wide=True),
    "statistics_off": Arm(changes={"generators": {"statistics_weight": 0.0}}),
    "balance_off": Arm(changes={"generators": {"balance_weight": 0.0}}),
    "adversary_off": Arm(changes={"generators": {"adversarial_weight": 0.0}}),
    "plain_adversary": Arm(changes={"generators": {"adversary": "plain"}}),
    "agreed_only": Arm(changes={"generators": {"agreed_only": True}}),
    "warmup_off": Arm(changes={"generators": {"warmup": 0.0}}),
    "memory_off": Arm(changes={"samples": _BARE}),
    "blending_off": Arm(changes={"samples": {"blending": 0.0}}),
    "share_fixed": Arm(changes={"samples": {"rule": "fixed"}}),
    "student_average_off": Arm(changes={"training": {"ema_decay": 0.0}}),
}


def free_spec(
    student: dict[str, Any], task: dict[str, Any], arm: Arm, *, seed: int
) -> DataFreeSpec:
    """An arm's job on a task.

    Args:
        student: The student's network.
        task: What all arms of the task share.
        arm: The arm.
        seed: Of everything.
    """
    values: dict[str, Any] = {"output_model": "student", "teachers": ["teacher"]}
    for name in ("training", "generators", "samples"):
        values[name] = {**task.get(name, {}), **arm.changes.get(name, {})}
    values["training"]["seed"] = seed
    values |= {name: part for name, part in task.items() if name not in values}
    base = DataFreeSpec.model_validate({**values, "student": student})
    if base.samples.memory or arm.wide:
        return base
    with_memory = DataFreeSpec.model_validate(
        {**values, "samples": task.get("samples", {}), "student": student}
    )
    batch = math.ceil(passes(with_memory) / (base.training.student_steps + 1))
    training = base.training.model_copy(update={"batch_size": max(4, batch)})
    return base.model_copy(update={"training": training})


def passes(spec: DataFreeSpec) -> int:
    """Samples that generators make in a round."""
    size, sharing = spec.training.batch_size, spec.samples
    remembered = round(sharing.memory_share * size) if sharing.memory else 0
    return size + spec.training.student_steps * (size - remembered)
