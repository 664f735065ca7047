"""Multi-teacher distillation against its alternatives, on nuclei of two domains.

Teachers T1 (H&E only), T2 (fluorescence only) and T3 (a weak generalist) are trained
from all labels; students see the labels of eight tiles of each domain and the rest of
the tiles without. Every arm trains the same student for as many steps from the same
seeds. What a teacher records of itself (a temperature, its Dice) it measured on the
validation tiles, as teachers do; no student's weights were chosen on them.

Writes ``build/benchmarks/multi_teacher.json`` and ``.png`` and prints a table::

    make bench-multi-teacher
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table

import speed
from arms import (
    ARMS,
    LABELED,
    STEPS,
    STUDENT,
    SWITCH_SEEDS,
    SWITCHES,
    TEACHER,
    TEACHER_STEPS,
    WEAK,
    WEAK_STEPS,
    student_spec,
    teacher_spec,
)
from figure import draw
from histill.core.specs import MultiTeacherSpec
from histill.distill.dataset import load_dataset
from histill.distill.panel import load_panel
from histill.distill.teacher_cache import TeacherCache
from histill.distill.teachers import judged_images
from histill.distill.workdir import RunOrder, Workdir
from intervals import interval, without_nan
from measures import Model, measure
from nuclei import DATA, DOMAINS, labeled_keys, tiles, write_dataset
from oracle import oracle
from trainings import at_once, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainings import Trained


OUT = Path(__file__).parents[2] / "build" / "benchmarks"
MEASURES = ("dice", "nsd2", "pq", "hd95", "ms")
_PROCESSES = min(2, os.cpu_count() or 1)
console = Console()


@dataclass(frozen=True)
class Bench:
    """Where everything of one benchmark lies."""

    root: Path

    @property
    def cache(self) -> Path:
        """The teachers' predictions, shared by all runs."""
        return self.root / "teacher-cache"

    def data(self, name: str) -> Path:
        """A dataset's shards."""
        return self.root / "data" / name


def train_teachers(bench: Bench) -> list[Trained]:
    """T1, T2 and T3, two at a time on one core each."""
    plans = [
        ("he-only", ("he",), TEACHER, TEACHER_STEPS),
        ("fluo-only", ("fluo",), TEACHER, TEACHER_STEPS),
        ("generalist", DOMAINS, WEAK, WEAK_STEPS),
    ]
    return at_once(
        [
            partial(
                train,
                bench.root / name,
                teacher_spec(name, network, steps),
                write_dataset(bench.data(name), domains),
                shards=bench.data(name),
            )
            for name, domains, network, steps in plans
        ],
        processes=_PROCESSES,
    )


def students(
    bench: Bench, teachers: list[Trained], seeds: Sequence[int], names: Sequence[str]
) -> dict[str, list[Trained]]:
    """Each arm's student from each seed."""
    arms = {name: arm for name, arm in (ARMS | SWITCHES).items() if name in names}
    chosen: dict[str, list[Trained]] = {
        "none": [],
        "all": teachers,
        "best": [max(teachers, key=lambda t: t.manifest.metrics["shared_dice"])],
        "oracle": [oracle(bench.root / "oracle", bright=teachers[0], dark=teachers[1])],
    }
    datasets = {
        seed: write_dataset(
            bench.data(f"labels-{seed}"), DOMAINS, labeled=labeled_keys(LABELED, seed=seed)
        )
        for seed in seeds
    }
    order, work = _runs(list(arms), seeds), []
    for name, seed in order:
        guides = chosen[arms[name].teachers]
        work.append(
            partial(
                _announced,
                partial(
                    train,
                    bench.root / f"{name}-{seed}",
                    student_spec(name, arms[name], tuple(t.manifest.name for t in guides), seed),
                    datasets[seed],
                    shards=bench.data(f"labels-{seed}"),
                    teachers=guides,
                    cache=bench.cache,
                ),
            )
        )
    done: dict[str, list[Trained]] = {name: [] for name in arms}
    for (name, _), student in zip(order, at_once(work, processes=_PROCESSES), strict=True):
        done[name].append(student)
    return done


def _runs(names: Sequence[str], seeds: Sequence[int]) -> list[tuple[str, int]]:
    """Name and seed of each run: whole seeds of all arms first, switches last."""
    arms = [(name, seed) for seed in seeds for name in names if name in ARMS]
    few = list(seeds)[:SWITCH_SEEDS]
    return arms + [(name, seed) for seed in few for name in names if name in SWITCHES]


def _announced(work: Callable[[], Trained]) -> Trained:
    student = work()
    dice = student.result.metrics["dice"]
    console.print(f"  {student.folder.parent.name}: Dice {dice:.3f}, {student.seconds:.0f} s")
    return student


def summarized(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Mean over seeds of each measure in each domain and over both, with 95 % intervals."""
    summary: dict[str, Any] = {}
    for domain in (*DOMAINS, "mean"):
        summary[domain] = {}
        for name in MEASURES:
            domains = DOMAINS if domain == "mean" else (domain,)
            values = [statistics.fmean(run[d][name] for d in domains) for run in runs]
            mean, low, high = interval(values)
            summary[domain] |= {name: mean, f"{name}_ci95": [low, high]}
            summary[domain][f"{name}_seeds"] = values
    return summary


def measured(model: Trained) -> dict[str, dict[str, float]]:
    """All measures in each domain."""
    return {domain: measure(model.onnx, domain) for domain in DOMAINS}


def with_shared_dice(teacher: Trained, scores: dict[str, dict[str, float]]) -> Trained:
    """A teacher that remembers how it does over both domains, by which the best is chosen."""
    shared = statistics.fmean(scores[domain]["dice"] for domain in DOMAINS)
    metrics = teacher.manifest.metrics | {"shared_dice": shared}
    manifest = teacher.manifest.model_copy(update={"metrics": metrics})
    return type(teacher)(teacher.folder, manifest, teacher.result, teacher.seconds)


def speeds(bench: Bench, teachers: list[Trained], student: Trained) -> dict[str, float]:
    """What a step, an image and the trainer around them cost."""
    torch.set_num_threads(os.cpu_count() or 1)
    names = tuple(teacher.manifest.name for teacher in teachers)
    spec = student_spec("speed", ARMS["differential"], names, 0)
    assert isinstance(spec, MultiTeacherSpec)
    workdir = Workdir(bench.root / "differential-0")
    order = workdir.read_order()
    assert isinstance(order, RunOrder)
    dataset = load_dataset(workdir, order)
    cache = TeacherCache(bench.cache, limit=1 << 40)
    panel = load_panel(workdir, order.teachers, order.dataset, spec, torch.device("cpu"), cache)
    images = judged_images(dataset.training, panel, spec)
    alone, taught = speed.step_seconds(images, STUDENT, spec, dataset.normalization)
    ours, bare = speed.throughput_ratio(images, STUDENT, dataset.normalization)
    image = tiles("val", ("he",))[0].pixels()
    models = [Model(each.onnx) for each in (student, *teachers[:2])]
    light, *heavy = speed.inference_milliseconds(models, image)
    return {
        "step_ms_labels_only": 1000 * alone,
        "step_ms_three_teachers": 1000 * taught,
        "step_cost_ratio": taught / alone,
        "trainer_images_per_second": ours,
        "bare_loop_images_per_second": bare,
        "trainer_throughput_ratio": ours / bare,
        "student_ms_per_image": light,
        "teacher_ms_per_image": max(heavy),
        "student_speedup": min(heavy) / light,
    }


def gap_closed(arms: dict[str, Any]) -> float:
    """(differential - labels_only) / (oracle - labels_only) on mean PQ."""
    names = ("differential", "labels_only", "oracle")
    pq: dict[str, float] = {name: arms[name]["mean"]["pq"] for name in names}
    return (pq["differential"] - pq["labels_only"]) / (pq["oracle"] - pq["labels_only"])


def ahead(arms: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Differential less each other arm, mean and 95 % interval over the seeds of both."""
    found: dict[str, dict[str, list[float]]] = {}
    ours = arms["differential"]["mean"]
    for name, scores in arms.items():
        found[name] = {}
        for key in MEASURES:
            pairs = zip(ours[f"{key}_seeds"], scores["mean"][f"{key}_seeds"], strict=False)
            found[name][key] = list(interval([a - b for a, b in pairs]))
    return found


def table(report: dict[str, Any]) -> Table:
    """Means over both domains with half intervals, and PQ by domain."""
    made = Table(title="validation tiles of both domains, mean ± 95 % over seeds")
    for column in ("arm", "Dice", "NSD 2 px", "PQ", "HD95 px", "PQ H&E", "PQ fluo"):
        made.add_column(column, justify="left" if column == "arm" else "right")
    for name, scores in (report["teachers"] | report["arms"]).items():
        mean = scores["mean"]
        cells = []
        for key in MEASURES[:3]:
            half = mean[f"{key}_ci95"][1] - mean[key]
            cells.append(f"{mean[key]:.3f}" + ("" if math.isnan(half) else f" ± {half:.3f}"))
        cells += [f"{mean['hd95']:.1f}", f"{scores['he']['pq']:.3f}", f"{scores['fluo']['pq']:.3f}"]
        made.add_row(name, *cells)
    return made


def lead(ahead: dict[str, dict[str, list[float]]]) -> Table:
    """Paired differences of differential to each other arm, 1000 times as large."""
    made = Table(title="differential less the other arm, by seed, in thousandths (95 %)")
    for column in ("arm", "Dice", "NSD 2 px", "PQ"):
        made.add_column(column, justify="left" if column == "arm" else "right")
    for name, scores in ahead.items():
        cells = [
            f"{1000 * mean:+.0f} ({1000 * low:+.0f} to {1000 * high:+.0f})"
            for mean, low, high in (scores[key] for key in MEASURES[:3])
        ]
        if name != "differential":
            made.add_row(name, *cells)
    return made


def main() -> None:
    """Runs what is not there yet, and reports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many (default 5)")
    parser.add_argument("--arms", nargs="*", default=[*ARMS, *SWITCHES], help="which (all)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder (build/benchmarks)")
    given = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(
            f"no data at {DATA}: set HISTILL_DATA to a folder with nuclei-he/ and nuclei-fluo/"
        )
    started = time.monotonic()
    bench = Bench(given.out.resolve() / "multi_teacher")
    console.print("teachers …")
    teachers = train_teachers(bench)
    scores = [measured(teacher) for teacher in teachers]
    teachers = [with_shared_dice(t, s) for t, s in zip(teachers, scores, strict=True)]
    console.print("students …")
    trained = students(bench, teachers, range(given.seeds), given.arms)
    report: dict[str, Any] = {
        "teachers": {
            teacher.manifest.name: summarized([each])
            | {"parameters": teacher.manifest.parameters, "seconds": teacher.seconds}
            for teacher, each in zip(teachers, scores, strict=True)
        },
        "arms": {
            name: summarized([measured(student) for student in runs])
            for name, runs in trained.items()
        },
    }
    if {"differential", "labels_only", "oracle"} <= set(trained):
        report["gap_closed"] = gap_closed(report["arms"])
    if "differential" in trained:
        report["ahead"] = ahead(report["arms"])
        student = trained["differential"][0]
        report |= speeds(bench, teachers, student)
        report["student_parameters"] = student.manifest.parameters
    report["circumstances"] = {
        "seeds": given.seeds,
        "seeds_of_switches": min(SWITCH_SEEDS, given.seeds),
        "steps": STEPS,
        "labeled_images_a_domain": LABELED,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version(name) for name in ("torch", "monai", "onnxruntime", "numpy")},
        "seconds": time.monotonic() - started,
    }
    (given.out / "multi_teacher.json").write_text(json.dumps(without_nan(report), indent=1))
    draw(report, given.out / "multi_teacher.png")
    console.print(table(report))
    if "ahead" in report:
        console.print(lead(report["ahead"]))
    for key in ("gap_closed", "step_cost_ratio", "trainer_throughput_ratio", "student_speedup"):
        if key in report:
            console.print(f"{key:26} {report[key]:.3f}")
    console.print(f"{given.out / 'multi_teacher.json'}, {report['circumstances']['seconds']:.0f} s")


if __name__ == "__main__":
    main()
