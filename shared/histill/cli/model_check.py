"""Has a teacher checked before it is sent, by ``histill.distill.check`` in a child process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToJson

from histill.cli.output import complain, say, say_help
from histill.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from histill.cli.model_folders import Described

_MODULE = "histill.distill.check"
_TIMEOUT_S = 600
# No setting of ours, and so no credentials: the child may run foreign code.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
              "OMP_NUM_THREADS")  # fmt: skip


def check(model: Described, *, quiet: bool = False) -> None:
    """Returns when a model has no problem, or cannot be checked on this machine.

    Args:
        model: Its files lie in one folder.
        quiet: Say nothing of a model without problems.

    Raises:
        InvalidArgumentError: It has problems; they have been printed.
    """
    if missing := [name for name in ("torch", "monai") if importlib.util.find_spec(name) is None]:
        if not quiet:
            words = " and ".join(missing)
            say(f"not checked: {words} is not installed here; pip install 'histill[worker]' has it")
        return
    found = _run(model)
    problems = found["problems"]
    for problem in problems:
        complain(f"{problem['code']}: {problem['message']}")
        say_help(problem["hint"])
    if problems:
        count = len(problems)
        raise InvalidArgumentError.of(
            model.header.model_name,
            f"{count} problem{'s' if count > 1 else ''}, nothing was pushed; --unchecked pushes it "
            "all the same",
        )
    if not quiet:
        say(f"checked: {found['parameters']:,} parameters, {found['ms_per_image']:.1f} ms an image")


def _run(model: Described) -> dict[str, Any]:
    folder = model.files[0].parent
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    with tempfile.TemporaryDirectory(prefix="histill-check-") as scratch:
        header = Path(scratch) / "header.json"
        header.write_text(MessageToJson(model.header, preserving_proto_field_name=True))
        command = [sys.executable, "-m", _MODULE, str(folder), str(header)]
        try:
            done = subprocess.run(  # noqa: S603 - our own command, no shell
                command,
                env=environment,
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _unreadable(f"the check did not end within {_TIMEOUT_S} s")
    lines = done.stdout.decode(errors="replace").splitlines()
    try:
        found = json.loads(lines[-1])
        # A program that prints may write anything, but ends with what the check says.
        return {name: found[name] for name in ("problems", "parameters", "ms_per_image")}
    except (IndexError, ValueError, KeyError, TypeError):
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return _unreadable(f"the check ended with exit code {done.returncode}: {said[-1]}")


def _unreadable(message: str) -> dict[str, Any]:
    hint = "Load and run it in Python yourself; --unchecked pushes it all the same."
    problem = {"code": "UNREADABLE", "message": message, "hint": hint}
    return {"problems": [problem], "parameters": 0, "ms_per_image": 0.0}
