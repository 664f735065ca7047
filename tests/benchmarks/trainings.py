"""Runs the real trainer as the worker does, several at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from histill.core.catalog import file_of
from histill.core.manifests import ONNX, WEIGHTS
from histill.distill.workdir import RunOrder, Workdir, made_manifest
from nuclei import EPOCH

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from histill.core.manifests import DatasetManifest, ModelManifest
    from histill.core.specs import MultiTeacherSpec, SupervisedSpec
    from histill.distill.workdir import RunResult

_CACHE_BYTES = 4 << 30


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: Its files: weights, ONNX, report.
        manifest: As the registry would hold it.
        result: What the trainer said.
        seconds: Of the whole process.
    """

    folder: Path
    manifest: ModelManifest
    result: RunResult
    seconds: float

    @property
    def onnx(self) -> Path:
        """The servable file."""
        return self.folder / ONNX


def train(
    root: Path,
    spec: SupervisedSpec | MultiTeacherSpec,
    dataset: DatasetManifest,
    *,
    shards: Path,
    teachers: Sequence[Trained] = (),
    cache: Path | None = None,
    threads: int = 1,
) -> Trained:
    """Trains in a work folder; a result that is there for the same order is taken as it is."""
    workdir = Workdir(root)
    order = RunOrder(
        job=f"jobs/{root.name}",
        attempt=1,
        spec=spec,
        dataset=dataset,
        teachers=tuple(teacher.manifest for teacher in teachers),
        teacher_cache=str(cache) if cache else "",
        teacher_cache_bytes=_CACHE_BYTES,
    )
    root.mkdir(parents=True, exist_ok=True)
    for link, target in [
        (workdir.dataset, shards),
        *((workdir.teacher(i), teacher.folder) for i, teacher in enumerate(teachers)),
    ]:
        link.parent.mkdir(exist_ok=True)
        if not link.exists():
            link.symlink_to(target)
    seconds = root / "seconds"
    if not (seconds.exists() and workdir.read_order() == order):
        seconds.unlink(missing_ok=True)  # what a failed run leaves is nobody's result
        workdir.write_order(order)
        _run(root, threads)
    result = workdir.read_result()
    made = made_manifest(order, result, [file_of(workdir.result / WEIGHTS)], create_time=EPOCH)
    manifest = made.model_copy(update={"version": 1})
    return Trained(workdir.result, manifest, result, float(seconds.read_text()))


def _run(root: Path, threads: int) -> None:
    started = time.monotonic()
    with (root / "events.jsonl").open("w") as out, (root / "log.txt").open("w") as err:
        done = subprocess.run(
            [sys.executable, "-m", "histill.distill.trainer", str(root)],
            stdout=out,
            stderr=err,
            env=dict(os.environ, OMP_NUM_THREADS=str(threads)),
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{root.name} failed:\n{(root / 'log.txt').read_text()[-2000:]}")
    (root / "seconds").write_text(str(time.monotonic() - started))


def at_once(work: Sequence[Callable[[], Trained]], *, processes: int) -> list[Trained]:
    """Runs trainings in order, some at a time; after a failure no further one starts."""
    with ThreadPoolExecutor(processes) as pool:
        waiting = [pool.submit(each) for each in work]
        try:
            return [each.result() for each in waiting]
        finally:
            for each in waiting:
                each.cancel()
