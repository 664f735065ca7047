"""Data-free distillation with two generators against its alternatives.

MNIST (LeNet-5 to half LeNet-5) and nuclei of two stains (U-Net to one of a fifth of its
parameters). Every arm trains the same student for as many steps from the same seeds, and
its generators make as many samples; no test image chooses anything. Scores are accuracy
and Dice.

Writes ``build/benchmarks/data_free.json`` and ``.png`` and prints tables::

    make bench-data-free
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console

from free_arms import ARMS, SWITCHES
from free_figure import draw
from free_run import score_path
from free_speed import round_cost
from free_summary import table, task_summary
from free_tasks import TASKS
from intervals import without_nan
from multi_teacher import OUT
from nuclei import DATA

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROCESSES = min(2, os.cpu_count() or 1)
_FULL = 10  # times as many steps
SWITCHED = ("mnist", "nuclei_he")  # tasks on which single switches are turned too
_SWITCH_SEEDS = 2  # fewer, so that all of it takes little more than an hour
console = Console()


def runs(tasks: Sequence[str], arms: Sequence[str], seeds: int) -> list[tuple[str, str, int]]:
    """Task, arm and seed of each run: all seeds of the arms first, switches last."""
    chosen = [
        (task, arm, seed)
        for seed in range(seeds)
        for task in tasks
        for arm in arms
        if arm in ARMS or (task in SWITCHED and seed < _SWITCH_SEEDS)
    ]
    return sorted(chosen, key=lambda run: run[1] in SWITCHES)


def score(root: Path, scale: int, which: tuple[str, str, int]) -> dict[str, Any]:
    """Runs one unless it was, in a process of its own on one thread."""
    task, arm, seed = which
    path = score_path(root, TASKS[task](), arm, seed, scale=scale)
    if not path.exists():
        command = [sys.executable, str(Path(__file__).with_name("free_run.py"))]
        done = subprocess.run(
            [*command, str(root), task, arm, str(seed), str(scale)],
            # CUBLAS is deterministic with this setting alone.
            env=dict(os.environ, OMP_NUM_THREADS="1", CUBLAS_WORKSPACE_CONFIG=":4096:8"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{task} {arm} {seed} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(path.read_text())
    kept, took = found["kept"]["value"], found["seconds"]
    console.print(f"  {task} {arm} {seed}: {kept:.4f}, {took:.0f} s", highlight=False)
    return found


def teach(root: Path, name: str) -> dict[str, Any]:
    """Trains a task's teacher and measures it; the round's cost besides."""
    task = TASKS[name]()
    manifest, _, net = task.teacher(root)
    return {**task.score(net, net)._asdict(), "parameters": manifest.parameters}


def main() -> None:
    """Runs what is not there yet, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), help="which (all)")
    parser.add_argument("--arms", nargs="*", default=[*ARMS, *SWITCHES], help="which (all)")
    parser.add_argument("--full", action="store_true", help=f"{_FULL} times the steps")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (build/benchmarks)")
    given = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(
            f"no data at {DATA}: set HISTILL_DATA to a folder with mnist.npz and tiles"
        )
    started = time.monotonic()
    root, scale = given.out.resolve() / "data_free", _FULL if given.full else 1
    torch.set_num_threads(1)
    console.print("teachers …")
    with ThreadPoolExecutor(_PROCESSES) as pool:
        teachers = dict(zip(given.tasks, pool.map(partial(teach, root), given.tasks), strict=True))
    console.print("students …")
    order = runs(given.tasks, given.arms, given.seeds)
    with ThreadPoolExecutor(_PROCESSES) as pool:
        scores = dict(zip(order, pool.map(partial(score, root, scale), order), strict=True))
    report: dict[str, Any] = {}
    for task in given.tasks:
        arms: dict[str, list[dict[str, Any]]] = {}
        for (name, arm, _), found in scores.items():
            if name == task:
                arms.setdefault(arm, []).append(found)
        report[task] = task_summary(arms, teachers[task])
        report[task]["speed"] = round_cost(root, TASKS[task]())
        console.print(table(task, report[task]))
        for key in ("retention", "nsd_retention"):
            console.print(f"{key} {report[task].get(key, float('nan')):.4f}", highlight=False)
        console.print({k: round(v, 4) for k, v in report[task]["speed"].items()})
    report["circumstances"] = {
        "seeds": given.seeds,
        "times_the_steps": scale,
        "minutes": (time.monotonic() - started) / 60,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "processes": _PROCESSES,
        "torch": version("torch"),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "data_free.json").write_text(json.dumps(without_nan(report), indent=1))
    draw(report, scores, given.out / "data_free.png")
    console.print(
        f"{report['circumstances']['minutes']:.0f} minutes; {given.out / 'data_free.json'}"
    )


if __name__ == "__main__":
    main()
