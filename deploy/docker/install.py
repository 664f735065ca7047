"""Installs what an image's process needs into an environment that begins empty.

What a package needs is known once it is installed: each round installs what those of the
rounds before ask for, at the lock's versions and with its hashes, until nothing is missing.
torch's family, which the lock leaves out, comes from an index of its own: torch before all, so
that it can say what it needs, and its packages for CUDA at last.

Usage: python install.py TARGET [--python PYTHON] [--torch-index URL]
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

from packages import TARGETS, closure, own_requirements, read_lock, read_project
from packaging.utils import canonicalize_name
from trim import trim

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packages import Pinned

UNLOCKED = re.compile(r"torch|triton|nvidia-.*|cuda-.*")


def site_packages(python: str) -> Path:
    """The folder of an environment's packages."""
    words = "import sysconfig; print(sysconfig.get_path('purelib'), end='')"
    told = subprocess.run([python, "-c", words], check=True, capture_output=True, text=True)  # noqa: S603
    return Path(told.stdout)


def installed(site: Path) -> dict[str, Distribution]:
    """Packages of a folder, by name."""
    found = distributions(path=[str(site)])
    return {canonicalize_name(each.metadata["Name"]): each for each in found}


def missing(target: str, there: Mapping[str, Distribution]) -> set[str]:
    """Names of packages that are needed, as far as can be told, and not there."""

    def requires(name: str) -> list[str]:
        return (there[name].requires or []) if name in there else []

    first = own_requirements(read_project(), TARGETS[target])
    return {name for name in closure(first, requires) if not UNLOCKED.fullmatch(name)} - set(there)


def pip(python: str, *arguments: str, text: str = "") -> None:
    """Runs pip on an environment that has none.

    Raises:
        SystemExit: It fails.
    """
    command = [sys.executable, "-m", "pip", "--python", python, *arguments]
    done = subprocess.run(command, input=text, text=True, check=False)  # noqa: S603 - pip
    if done.returncode:
        sys.exit(done.returncode)


def install(names: set[str], pins: Mapping[str, Pinned], python: str) -> None:
    """Installs packages of the lock, and nothing that they ask for.

    Raises:
        SystemExit: The lock does not know one, or pip fails.
    """
    if unknown := names - set(pins):
        sys.exit(f"install: not in requirements.lock: {', '.join(sorted(unknown))}")
    lines = (
        f"{name}=={pins[name].version} "
        + " ".join(f"--hash=sha256:{each}" for each in pins[name].sha256)
        for name in sorted(names)
    )
    hashed = ("--require-hashes", "--requirement", "/dev/stdin")
    pip(python, "install", "--no-deps", "--no-compile", *hashed, text="\n".join(lines))


def main(target: str, python: str, index: str) -> int:
    """Installs until nothing is missing, trims, and compiles; returns the exit code."""
    pins, site = read_lock(), site_packages(python)
    asked = own_requirements(read_project(), TARGETS[target])
    unlocked = [str(each) for each in asked if UNLOCKED.fullmatch(each.name)]
    there = (*(("--index-url", index) if index else ()), *unlocked)
    if unlocked:
        pip(python, "install", "--no-deps", "--no-compile", *there)
    while names := missing(target, installed(site)):
        install(names, pins, python)
    if unlocked:  # once more, for what only its builds for CUDA need
        pip(python, "install", "--no-compile", *there)
    pip(python, "check")
    sys.stdout.write(f"trimmed: {trim(site) / 1e6:.0f} MB\n")
    # By content: a file system that can only be read takes no newer ones, and copies change times.
    # A file that cannot be compiled is for another version of Python, and imported by nobody.
    compiling = ("-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash")
    subprocess.run([python, *compiling, str(site)], check=False)  # noqa: S603 - our own command
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--python", default="/opt/histill/bin/python", help="the environment's")
    parser.add_argument("--torch-index", default="", help="of builds of torch; pip's own if empty")
    arguments = parser.parse_args()
    sys.exit(main(arguments.target, arguments.python, arguments.torch_index))
