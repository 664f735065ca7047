"""Containers as Kubernetes would start them, by podman and runc."""

# ruff: noqa: INP001 - a script is no package
from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images_trials import Trial

START_S = 120.0
STOP_S = 60.0
# As in the chart's pods; the limits are those that a user who is not root may have anywhere.
_AS_IN_A_POD = (
    *("--network=host", "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,mode=1777"),
    *("--cap-drop=all", "--security-opt=no-new-privileges"),
    *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", "--log-driver=k8s-file"),
)


class TrialError(Exception):
    """A container does not do what it should."""


def podman(*arguments: str, check: bool = True) -> str:
    """Runs podman; returns what it prints, and for logs what a container said anywhere.

    Raises:
        TrialError: It fails, and ``check`` says that it must not; carries its complaint.
    """
    command = ["podman", "--runtime", "runc", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if check and done.returncode:
        words = f"{done.stdout}\n{done.stderr}".strip()
        raise TrialError(f"podman {arguments[0]} ended with {done.returncode}: {words}")
    return (done.stdout + (done.stderr if arguments[0] == "logs" else "")).strip()


def size_of(image: str) -> int:
    """Bytes of an image's layers, not compressed."""
    return int(podman("image", "inspect", "--format", "{{.Size}}", image))


def ran(trial: Trial, image: str, *command: str) -> str:
    """What a container prints that runs a command to its end.

    Args:
        trial: How it is started.
        image: Its name.
        command: Options of podman's, if any, must come first.

    Raises:
        TrialError: The command fails.
    """
    options = [each for each in command if each.startswith("--entrypoint=")]
    words = [each for each in command if not each.startswith("--entrypoint=")]
    return podman("run", "--rm", "--no-healthcheck", *_flags(trial), *options, image, *words)


@contextmanager
def started(trial: Trial, image: str) -> Iterator[str]:
    """The name of a container that runs while the block does; afterwards it is gone."""
    name = f"histill-check-{os.getpid()}-{trial.target}"
    # Its HEALTHCHECK is there to be run by us; podman itself would want systemd for it.
    podman("run", "--detach", "--health-interval=disable", f"--name={name}", *_flags(trial), image)
    try:
        yield name
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


def until_ready(trial: Trial, name: str) -> float:
    """Seconds until its probes say that it is ready, and then its HEALTHCHECK must.

    Raises:
        TrialError: It ended, or is not ready in time; carries the end of its log.
    """
    begin = time.monotonic()
    while not trial.ready():
        runs = _running(name)
        if not runs or time.monotonic() - begin > START_S:
            what = "is not ready" if runs else "ended by itself"
            raise TrialError(f"{what}: {last_words(name)}")
        time.sleep(0.2)
    seconds = time.monotonic() - begin
    podman("healthcheck", "run", name)
    return seconds


def last_words(name: str) -> str:
    """The end of a container's log."""
    return podman("logs", "--tail", "15", name)


def stopped(name: str) -> float:
    """Seconds from SIGTERM, which its first process gets, to its end.

    Raises:
        TrialError: It does not end in time, or not with 0.
    """
    begin = time.monotonic()
    podman("kill", "--signal", "TERM", name)
    while _running(name):
        if time.monotonic() - begin > STOP_S:
            raise TrialError(f"runs on {STOP_S:.0f} s after SIGTERM")
        time.sleep(0.1)
    code = podman("inspect", "--format", "{{.State.ExitCode}}", name)
    if code != "0":
        raise TrialError(f"ended with {code} after SIGTERM")
    return time.monotonic() - begin


def _running(name: str) -> bool:
    return podman("inspect", "--format", "{{.State.Running}}", name) == "true"


def _flags(trial: Trial) -> list[str]:
    settings = trial.settings | {"FOLDERS": " ".join(("/tmp", *trial.folders))}  # noqa: S108 - the container's
    return [
        *_AS_IN_A_POD,
        *(f"--env={name}={value}" for name, value in settings.items()),
        *(f"--volume={_volume(trial, folder)}:{folder}" for folder in trial.folders),
    ]


def _volume(trial: Trial, folder: str) -> Path:
    """A folder that everybody may write, as emptyDir is."""
    path = trial.volumes / Path(folder).name
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o1777)
    return path
