"""The demo, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from running import running

if TYPE_CHECKING:
    from pathlib import Path


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HISTILL_")}
    return subprocess.Popen(
        [sys.executable, "-m", "histill.cli.main", "demo", "--home", str(home), *arguments],
        env=clean | {"COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def dice(output: str, model: str) -> float:
    row = re.search(rf"{model} +│ +[\d,]+ +│ +[\d.]+ .B +│ +([\d.]+)", output)
    assert row is not None, output
    return float(row[1])


@pytest.mark.parametrize("seconds", [0.5, 3.0, 12.0])
def test_ctrl_c_stops_everything_and_says_where_the_data_is(tmp_path: Path, seconds: float) -> None:
    """At the start, while servers come up, and in the middle of training."""
    demo = start(tmp_path)
    time.sleep(seconds)
    demo.send_signal(signal.SIGINT)
    ends = {130}
    try:
        output, _ = demo.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        # Python loses an interrupt that comes while an object is being destroyed; whoever
        # sees nothing happen presses again, and may hit an interpreter that is on its way out.
        ends.add(-signal.SIGINT)
        demo.send_signal(signal.SIGINT)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode in ends, output
    assert "Traceback" not in output or "Exception ignored" in output
    assert running(f"{tmp_path}/") == {}
    if seconds > 1:
        assert str(tmp_path) in output.replace("\n", "")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("source", ["tissue", "nuclei-he"])
def test_the_distilled_student_beats_the_one_from_labels_alone(
    tmp_path: Path, source: str, request: pytest.FixtureRequest
) -> None:
    """Same network, steps, seed and labels, measured through the service on held-out images."""
    arguments = []
    if source != "tissue":
        arguments = ["--data", str(request.getfixturevalue("data_dir") / source)]
    demo = start(tmp_path, *arguments)
    output, _ = demo.communicate(timeout=1100)
    assert demo.returncode == 0, output
    assert dice(output, "student-distilled") >= dice(output, "student-labels-only")
    assert ("stand-in" in output) == (source == "tissue")
    panels = sorted((tmp_path / "overlays").glob("*.png"))
    assert len(panels) == 4
    with Image.open(panels[0]) as panel:
        assert len(np.unique(np.asarray(panel).reshape(-1, 3), axis=0)) > 1000
    assert running(f"{tmp_path}/") == {}
