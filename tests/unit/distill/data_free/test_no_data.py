"""A data-free job reads no data: it cannot name any, and opens nothing but its teachers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

import histill.core
import manifests
from histill.distill.workdir import DataFreeOrder

if TYPE_CHECKING:
    from collections.abc import Callable

    from histill.distill.workdir import Workdir

# Every path that Python opens is noted, from before the first import of ours on.
_SCRIPT = """
import json, os, sys
opened = set()

def hook(event, arguments):
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.add(os.path.abspath(os.fsdecode(arguments[0])))

sys.addaudithook(hook)
from histill.distill.trainer import main
code = main([sys.argv[1]])
paths = sorted(opened)
places = [sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)]
print(json.dumps({"code": code, "paths": paths, "places": places}))
"""
_SYSTEM = ("/usr", "/lib", "/proc", "/sys", "/dev", "/etc")


def under(path: str, folders: list[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def wanted(path: Path) -> bool:
    """Whether a path within the work folder is one that a data-free job needs."""
    return (
        path.parts[0] in {"run.json", "result.json", "result"}
        or path.parts[:2] == ("teachers", "0")
        or (len(path.parts) == 1 and path.name.startswith("checkpoint"))
    )


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_job_opens_nothing_but_its_order_and_its_teachers(
    task: str, write_work: Callable[..., Workdir], tmp_path: Path
) -> None:
    """Of what lies in its folder, and nothing elsewhere but programs and their caches."""
    workdir = write_work(tmp_path / "work", task)
    decoy = workdir.dataset / "shard-00000.tar"
    decoy.parent.mkdir()
    os.mkfifo(decoy)  # whoever opens it, by whatever library, waits for ever
    caches, elsewhere = tmp_path / "caches", tmp_path / "elsewhere"
    caches.mkdir()
    elsewhere.mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    places = dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME"), str(caches))
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(workdir.root)],
        cwd=elsewhere,
        env=kept | places | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == 0, done.stderr
    assert workdir.read_result().classes == workdir.read_order().teachers[0].classes
    sources = [str(root.parents[1]) for root in map(Path, histill.core.__path__)]
    sources += [str(Path(sources[0]).with_name(name)) for name in ("services", "workers")]
    programs = [*told["places"], *sources, *_SYSTEM, str(caches)]
    inside = [p for p in told["paths"] if under(p, [str(workdir.root)])]
    assert [p for p in told["paths"] if p not in inside and not under(p, programs)] == []
    relative = [Path(p).relative_to(workdir.root) for p in inside]
    assert [str(path) for path in relative if not wanted(path)] == []
    # The hook works: what must have been opened is among what was noted.
    assert {"run.json", "result.json", "result/report.html"} <= {str(path) for path in relative}


def test_an_order_has_no_field_that_could_name_data() -> None:
    """A dataset, a cache of predictions or a folder is refused, at the order and in its spec."""
    spec = {"output_model": "m", "teachers": ["teacher@1"]}
    fields = {"job": "jobs/1", "attempt": 1, "spec": spec}
    teacher = manifests.model().model_dump(mode="json")
    whole = fields | {"teachers": [teacher]}
    assert DataFreeOrder.model_validate(whole).spec.teachers == ("teacher@1",)
    data = manifests.dataset().model_dump(mode="json")
    for extra in ({"dataset": data}, {"dataset": None}, {"teacher_cache": "cache"}):
        with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
            DataFreeOrder.model_validate(whole | extra)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        DataFreeOrder.model_validate(whole | {"spec": spec | {"dataset": "nuclei"}})
    assert "dataset" not in DataFreeOrder.model_fields
