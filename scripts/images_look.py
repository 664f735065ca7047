"""Runs in an image, by its own Python, and prints as JSON what it finds there.

FOLDERS names the folders that must be writable.
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

CLOSED = ("/", "/opt/histill", "/usr", "/var/lib", "/var/lib/histill")
TOOLS = ("pip", "pip3", "gcc", "cc", "ld", "make")
MODULES = ("torch", "setuptools", "pip", "ensurepip", "wheel", "hatchling")


def writes(folder: str) -> bool:
    """Whether a file can be made in a folder."""
    path = Path(folder, ".histill-check")
    try:
        path.touch()
        path.unlink()
    except OSError:
        return False
    return True


def main() -> None:
    """Looks, and prints."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    found = {
        "user": [os.getuid(), os.getgid()],
        "capabilities": int(status["CapBnd"], 16),
        "no_new_privileges": status["NoNewPrivs"].strip() == "1",
        "writable": [each for each in CLOSED if writes(each)],
        "not_writable": [each for each in os.environ["FOLDERS"].split() if not writes(each)],
        "tools": [each for each in TOOLS if shutil.which(each)],
        "modules": [each for each in MODULES if find_spec(each)],
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
