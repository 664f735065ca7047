"""Runs the trainer as a child process and turns what it says into events."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING

from pydantic import ValidationError

from histill.core.errors import WorkFailedError
from histill.distill.workdir import RunEvent, RunResult, Workdir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import IO

    from histill.distill.stops import Stop

LOG_TAIL = 30
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
              "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")  # fmt: skip


def trainer_command(folder: Workdir, *, processes: int) -> list[str]:
    """The command line; several processes go through torchrun, one needs no launcher."""
    trainer = ["-m", "histill.distill.trainer", str(folder.root)]
    if processes == 1:
        return [sys.executable, *trainer]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *launcher, *trainer]


def trainer_environment(environment: Mapping[str, str], *, threads: int) -> dict[str, str]:
    """What the child may see: no setting of ours, and so no credentials."""
    passed = {name: environment[name] for name in _PASSED_ON if name in environment}
    return passed | {"OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}


def run_trainer(
    command: list[str],
    environment: Mapping[str, str],
    folder: Workdir,
    stop: Stop,
    *,
    on_event: Callable[[RunEvent], None],
    on_log: Callable[[str], None],
    grace_s: float,
) -> RunResult:
    """Runs the trainer to its end.

    Args:
        command: What to start.
        environment: Its whole environment.
        folder: Holds the order; will hold the result.
        stop: Ends the child early when set.
        on_event: Called with each event, from another thread.
        on_log: Called with each line of the log, from another thread.
        grace_s: From SIGTERM to SIGKILL.

    Raises:
        WorkFailedError: The trainer failed; carries what it said.
        StoppedError: ``stop`` was set.
    """
    process = subprocess.Popen(  # noqa: S603 - our own command, no shell
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=LOG_TAIL)

    def keep(line: str) -> None:
        tail.append(line)
        on_log(line)

    def event(line: str) -> None:
        try:
            parsed = RunEvent.model_validate_json(line)
        except ValidationError:
            keep(line)
        else:
            on_event(parsed)

    readers = [_pump(process.stdout, event), _pump(process.stderr, keep)]
    try:
        while process.poll() is None and not stop.wait(0.05):
            pass
    finally:
        end(process, grace_s=grace_s)
        for reader in readers:
            reader.join(timeout=5)
    stop.check()
    if process.returncode != 0:
        raise _failure(process.returncode, folder, tail)
    return folder.read_result()


def end(process: subprocess.Popen[bytes], *, grace_s: float) -> None:
    """Ends a child and its own children: SIGTERM, then SIGKILL."""
    if process.poll() is not None:
        return
    _signal_group(process, signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
        os.killpg(process.pid, number)


def _pump(stream: IO[bytes] | None, sink: Callable[[str], None]) -> threading.Thread:
    assert stream is not None  # noqa: S101 - both streams are pipes

    def read() -> None:
        with stream:
            for line in stream:
                sink(line.decode(errors="replace").rstrip())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _failure(code: int, folder: Workdir, tail: deque[str]) -> WorkFailedError:
    said = folder.read_error()
    if said is not None:
        return WorkFailedError(said.message, reason=said.reason, hint=said.hint)
    if code == -signal.SIGKILL:
        return WorkFailedError(
            "the trainer was killed by the system, most likely for want of memory",
            reason="OUT_OF_MEMORY",
            hint="lower training.batch_size or training.crop_size, or give the worker more memory",
        )
    last = tail[-1] if tail else "it said nothing"
    return WorkFailedError(
        f"the trainer ended with exit code {code}: {last}",
        reason="TRAINER_CRASHED",
        hint="read the last lines of its log; submit the job again if they name a passing fault",
    )
