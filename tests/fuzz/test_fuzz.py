"""A short run of every fuzzer, always from the same seed; ``make fuzz`` runs them for longer."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from harnesses import HARNESSES

RUN = Path(__file__).with_name("run.py")
SECONDS = 3
NAMES = [
    "answer", "dicom", "image", "mask", "reference", "safetensors", "shard", "tensors",
    "torchscript", "yaml",
]  # fmt: skip


def test_every_reader_has_its_run() -> None:
    """What is fuzzed here, by ``make fuzz`` and at all are the same."""
    assert sorted(HARNESSES) == NAMES
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert f"FUZZED := {' '.join(NAMES)}\n" in makefile


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed: no fuzzing")
@pytest.mark.parametrize("name", NAMES)
def test_nothing_but_our_errors_leaves_a_reader(name: str, tmp_path: Path) -> None:
    """Some thousand changed inputs are read, or refused in words."""
    done = subprocess.run(
        [sys.executable, RUN, name, "--seconds", str(SECONDS), "--found", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-4000:]
    assert "stat::number_of_executed_units" in done.stderr
