"""Runs the trainer as a child process and turns what it says into events."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from pydantic import ValidationError

from histill.core.errors import WorkFailedError
from histill.distill.reasons import OUT_OF_MEMORY, TRAINER_CRASHED
from histill.distill.relay import Relay
from histill.distill.stops import StopReason
from histill.distill.workdir import RunEvent, RunResult, Workdir

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import IO

    from histill.distill.stops import Stop

_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
              "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")  # fmt: skip
# For what the trainer has said, after its end: a Redis that hangs must not hold up the job.
_HEARD_OUT_S = 5.0


class TrainerKilledError(WorkFailedError):
    """The trainer was ended from outside: perhaps for no fault of the job."""


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


def nobody(_: RunEvent) -> None:
    """Hears nothing."""


def run_trainer(
    command: list[str],
    environment: Mapping[str, str],
    folder: Workdir,
    stop: Stop,
    *,
    heard: Callable[[RunEvent], None] = nobody,
    on_event: Callable[[RunEvent], None],
    on_log: Callable[[str], None],
    grace_s: float,
    drain_s: float,
) -> RunResult:
    """Runs the trainer to its end.

    Args:
        command: What to start.
        environment: Its whole environment.
        folder: Holds the order; will hold the result.
        stop: Ends the child early when set.
        heard: Called with each event at once; must not wait.
        on_event: Called with each event, from another thread.
        on_log: Called with each line of the log, from another thread.
        grace_s: From SIGTERM to SIGKILL.
        drain_s: How long a draining worker waits for one more checkpoint.

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
    last: deque[str] = deque(maxlen=1)
    relay = Relay(on_event, on_log)

    def keep(line: str) -> None:
        last.append(line)
        relay.put(line)

    def event(line: str) -> None:
        try:
            parsed = RunEvent.model_validate_json(line)
        except ValidationError:
            keep(line)
        else:
            heard(parsed)
            relay.put(parsed)

    streams = [(process.stdout, event), (process.stderr, keep)]
    threads = [_start_reading(stream, sink) for stream, sink in streams]
    try:
        _await(process, folder, stop, drain_s=drain_s)
    finally:
        end(process, grace_s=grace_s)
        for thread in threads:
            thread.join(timeout=5)
        relay.close(wait_s=_HEARD_OUT_S)
    stop.check()
    if relay.failed is not None:
        raise relay.failed
    if process.returncode != 0:
        raise _failure(process.returncode, folder, last)
    return folder.read_result()


def _await(
    process: subprocess.Popen[bytes], folder: Workdir, stop: Stop, *, drain_s: float
) -> None:
    """Returns when the child has ended, or has to; when drained, with one more checkpoint."""
    while process.poll() is None and not stop.wait(0.05):
        pass
    if stop.reason is not StopReason.DRAINED:
        return
    before = _written(folder.checkpoint)
    folder.checkpoint_wanted.touch()
    deadline = time.monotonic() + drain_s
    while time.monotonic() < deadline and process.poll() is None:
        if _written(folder.checkpoint) != before:
            return
        time.sleep(0.02)


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def end(process: subprocess.Popen[bytes], *, grace_s: float) -> None:
    """Ends a child and all of its own children: SIGTERM, then SIGKILL.

    Also when the child itself is gone: a launcher that was killed leaves its ranks.
    """
    if process.poll() is None:
        _signal_group(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of it has ended meanwhile
        os.killpg(process.pid, number)


def _start_reading(stream: IO[bytes] | None, sink: Callable[[str], None]) -> threading.Thread:
    """Reads one stream of the child to its end, whatever its listeners do."""

    def read() -> None:
        assert stream is not None  # noqa: S101 - both streams are pipes
        with stream:
            for line in stream:
                sink(line.decode(errors="replace").rstrip())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def _failure(code: int, folder: Workdir, last: deque[str]) -> WorkFailedError:
    said = folder.read_error()
    if said is not None:
        return WorkFailedError(said.message, reason=said.reason, hint=said.hint)
    if code == -signal.SIGKILL:
        return TrainerKilledError(
            "the trainer was killed by the system, most likely for want of memory",
            reason=OUT_OF_MEMORY,
            hint="lower training.batch_size, the size of crops or samples, or samples.memory; or "
            "give the worker more memory",
        )
    words = last[0] if last else "it said nothing"
    return WorkFailedError(
        f"the trainer ended with exit code {code}: {words}",
        reason=TRAINER_CRASHED,
        hint="read the last lines of its log; submit the job again if they name a passing fault",
    )
