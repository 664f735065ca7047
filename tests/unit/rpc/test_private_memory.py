"""Who may read what a service holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from histill.rpc.private_memory import keep_memory_private
keep_memory_private()
print("kept", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads Linux's /proc")
def test_memory_is_kept_private() -> None:
    """No core dump holds a patient's image, and the process's files belong to root alone."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        folder = Path(f"/proc/{process.pid}")
        limits = (folder / "limits").read_text()
        core = next(line for line in limits.splitlines() if line.startswith("Max core"))
        owner = (folder / "environ").stat().st_uid
        process.stdin.close()
    assert core.split()[4:6] == ["0", "0"]
    assert owner == 0
