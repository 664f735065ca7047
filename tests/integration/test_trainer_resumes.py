"""Trainer processes that are killed, started again, and end as if nothing had been."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from trainer_runs import Asked, events, killed, ordered, run

if TYPE_CHECKING:
    from pathlib import Path

    from histill.distill.workdir import Workdir

# Early stopping may end it, the average is what is kept, and every batch is augmented.
EVERYTHING = {
    "steps": 60,
    "ema_decay": 0.9,
    "validations": 9,
    "patience": 4,
    "augment": True,
    "accumulate": 2,
}


def student(workdir: Workdir) -> bytes:
    """The file of the weights that a run ended with."""
    return (workdir.result / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Workdir:
    """A trained teacher's folder."""
    workdir = ordered(tmp_path_factory.mktemp("teacher"), Asked())
    done = run(workdir)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.parametrize(
    ("kind", "training", "kills", "processes"),
    [
        ("supervised", EVERYTHING, 2, 1),
        ("multi_teacher", EVERYTHING, 1, 1),
        ("multi_teacher_with_cache", {"batch_size": 6, "steps": 30}, 1, 3),
    ],
    ids=["supervised", "multi_teacher", "three_processes"],
)
def test_a_killed_run_ends_with_the_same_student(
    kind: str,
    training: dict[str, Any],
    kills: int,
    processes: int,
    teacher: Workdir,
    tmp_path: Path,
) -> None:
    """Killed once or twice and started again, its weights file has the same bytes."""
    teachers = () if kind == "supervised" else (teacher, teacher)
    cache = tmp_path / "cache" if "cache" in kind else None
    whole = ordered(tmp_path / "whole", Asked(teachers, training, cache=cache))
    done = run(whole, processes=processes)
    assert done.returncode == 0, done.stderr
    often = Asked(teachers, training, cache=cache, checkpoint_s=0)
    workdir = ordered(tmp_path / "killed", often)
    step = 0
    for _ in range(kills):
        step, before = killed(workdir, at=step + 7, processes=processes), step
        assert step > before
    done = run(workdir, processes=processes)
    assert done.returncode == 0, done.stderr
    resumed = re.search(r"event=resumed step=(\d+)", done.stderr)
    assert resumed is not None, done.stderr
    assert int(resumed[1]) == step
    steps = [e.progress.step for e in events(done.stdout) if e.progress.stage == "training"]
    assert steps[0] == step
    assert steps == sorted(steps)
    assert student(workdir) == student(whole)
    scores = [{k: v for k, v in w.read_result().metrics.items() if k in {"dice", "nsd2", "loss"}}
              for w in (workdir, whole)]  # fmt: skip
    assert scores[0] == scores[1]
