"""Tries every image as Kubernetes would run it, against real servers, and says what is wrong.

Each runs with a file system that can only be read, as user 10001, without capabilities or ways to
new ones, until its probes say that it is ready, and is told to stop with SIGTERM. When all are
there, the image of the command line has them train a small model and segment with it.

Usage: python scripts/images_check.py VERSION [TARGET...]; scripts/images sets up the rest.
"""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import json
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from images_podman import TrialError, last_words, ran, size_of, started, stopped, until_ready
from images_trials import SERVICES, Servers, Trial, trials
from packages import TARGETS

from histill.embedded.layout import Ports, Secrets
from histill.embedded.servers import start_s3, start_valkey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOOK = Path(__file__).with_name("images_look.py").read_text()
MB = 1_000_000
WORKERS_OWN = ["torch", "setuptools"]  # torch says that it needs the other
LARGEST_MB = {"inference": 700}
RIGHT = {
    "user": [10001, 10001],
    "capabilities": 0,
    "no_new_privileges": True,
    "writable": [],
    "not_writable": [],
    "tools": [],
    "modules": [],
}


@dataclass
class Outcome:
    """What came out for an image."""

    target: str
    size: int
    ready_s: float = 0.0
    stop_s: float = 0.0
    name: str = ""
    faults: list[str] = field(default_factory=list)


@contextmanager
def servers(folder: Path) -> Iterator[Servers]:
    """A Valkey and an S3 server on loopback while the block runs."""
    ports, keys = Ports.free(), Secrets.of(folder)
    password, access, secret = keys.valkey_password, keys.s3_access_key, keys.s3_secret_key
    valkey = start_valkey(folder / "valkey", port=ports.valkey, password=password)
    s3 = start_s3(folder / "s3", port=ports.s3, access_key=access, secret_key=secret)
    try:
        yield Servers(folder / "volumes", ports, keys)
    finally:
        for each in (valkey, s3):
            each.process.terminate()
            each.process.wait(timeout=30)


def looked(trial: Trial, image: str) -> Iterator[str]:
    """What is wrong with what lies in an image, and with what its user may do."""
    found = json.loads(ran(trial, image, "--entrypoint=python", "-c", LOOK))
    right = RIGHT | ({"modules": WORKERS_OWN} if trial.target == "worker" else {})
    for key, value in right.items():
        if found[key] != value:
            yield f"{key} is {found[key]}, not {value}"


def tried(trial: Trial, image: str, stack: ExitStack) -> Outcome:
    """Looks into an image, and starts it; a service runs on until the stack ends."""
    outcome = Outcome(trial.target, size_of(image))
    largest = LARGEST_MB.get(trial.target)
    if largest and outcome.size > largest * MB:
        outcome.faults.append(f"has {outcome.size / MB:.0f} MB, more than {largest}")
    try:
        outcome.faults += looked(trial, image)
        if trial.target in SERVICES:
            name = stack.enter_context(started(trial, image))
            outcome.ready_s = until_ready(trial, name)
            outcome.name = name
    except TrialError as exc:
        outcome.faults.append(str(exc))
    return outcome


def end(outcome: Outcome) -> None:
    """Stops a service that came up."""
    if outcome.name:
        try:
            outcome.stop_s = stopped(outcome.name)
        except TrialError as exc:
            outcome.faults.append(str(exc))


def used(trial: Trial, image: str, outcomes: dict[str, Outcome]) -> None:
    """Has the services that run train a small model and segment with it."""
    try:
        for command in (("setup", "bucket"), ("doctor", "--end-to-end")):
            sys.stdout.write(ran(trial, image, *command) + "\n")
    except TrialError as exc:
        outcomes[trial.target].faults.append(str(exc))
        for each in outcomes.values():
            if each.name:
                each.faults.append(f"said at last: {last_words(each.name)}")


def main(version: str, targets: Sequence[str]) -> int:
    """Tries the images; returns 1 if anything is wrong."""
    outcomes: dict[str, Outcome] = {}
    image = "localhost/histill/{}:" + version
    with tempfile.TemporaryDirectory(prefix="histill-images-") as folder, ExitStack() as stack:
        given = {each.target: each for each in trials(stack.enter_context(servers(Path(folder))))}
        for target in targets:
            outcomes[target] = tried(given[target], image.format(target), stack)
        if set(targets) == set(TARGETS) and not any(each.faults for each in outcomes.values()):
            used(given["cli"], image.format("cli"), outcomes)
        for outcome in reversed(list(outcomes.values())):
            end(outcome)
    sys.stdout.write(table(list(outcomes.values())))
    return 1 if any(each.faults for each in outcomes.values()) else 0


def table(outcomes: Sequence[Outcome]) -> str:
    """What came out, a line an image, and a line for each fault."""
    lines = [f"{'image':<10} {'size':>9} {'ready':>8} {'stopped':>8}"]
    for each in outcomes:
        numbers = f"{each.size / MB:>6.0f} MB {each.ready_s:>6.1f} s {each.stop_s:>6.1f} s"
        lines.append(f"{each.target:<10} {numbers}  {'FAIL' if each.faults else 'ok'}")
    lines += [f"{each.target}: {fault}" for each in outcomes for fault in each.faults]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:] or list(TARGETS)))
