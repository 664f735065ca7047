"""The supervisor's handling of the child process, with real child processes."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from histill.core.errors import WorkFailedError
from histill.core.jobs import JobError
from histill.core.manifests import ModelRole, Normalization
from histill.distill.stops import Stop, StoppedError, StopReason
from histill.distill.trainer_process import run_trainer, trainer_command, trainer_environment
from histill.distill.workdir import RunResult, Workdir
from running import command_lines

if TYPE_CHECKING:
    from pathlib import Path

    from histill.distill.workdir import RunEvent

    Outcome = tuple[RunResult, list[RunEvent], list[str]]

RESULT = RunResult(
    role=ModelRole.TEACHER,
    channels=3,
    classes=("background", "object"),
    normalization=Normalization(mean=(0.5,), std=(0.5,)),
    parameters=7,
    metrics={"dice": 0.5},
)


def run(folder: Path, code: str, stop: Stop | None = None, *, drain_s: float = 0.3) -> Outcome:
    events: list[RunEvent] = []
    lines: list[str] = []
    result = run_trainer(
        [sys.executable, "-c", code],
        {},
        Workdir(folder),
        stop or Stop(),
        on_event=events.append,
        on_log=lines.append,
        grace_s=0.3,
        drain_s=drain_s,
    )
    return result, events, lines


def test_result_events_and_log_come_back(tmp_path: Path) -> None:
    """Events from standard output, log lines from either stream, the result from its file."""
    Workdir(tmp_path).write_result(RESULT)
    code = (
        'import sys; print(\'{"progress": {"stage": "training", "step": 3, "steps": 9}}\');'
        "print('plain'); print('warned', file=sys.stderr)"
    )
    result, events, lines = run(tmp_path, code)
    assert result == RESULT
    assert [(event.progress.step, event.progress.steps) for event in events] == [(3, 9)]
    assert sorted(lines) == ["plain", "warned"]


def test_what_the_trainer_said_becomes_the_error(tmp_path: Path) -> None:
    """A failed trainer's own reason, message and hint are passed on."""
    Workdir(tmp_path).write_error(
        JobError(reason="DIVERGED", message="loss is NaN", hint="lower it")
    )
    with pytest.raises(WorkFailedError, match="loss is NaN") as caught:
        run(tmp_path, "raise SystemExit(1)")
    assert (caught.value.reason, caught.value.hint) == ("DIVERGED", "lower it")


def test_a_crash_without_a_word_names_the_last_line(tmp_path: Path) -> None:
    """A trainer that says nothing itself is described by its exit code and last line."""
    with pytest.raises(WorkFailedError, match=r"exit code 1.*ValueError: odd") as caught:
        run(tmp_path, "raise ValueError('odd')")
    assert caught.value.reason == "TRAINER_CRASHED"


def test_sigkill_is_taken_for_want_of_memory(tmp_path: Path) -> None:
    """A trainer that the system killed is reported as out of memory."""
    with pytest.raises(WorkFailedError) as caught:
        run(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert caught.value.reason == "OUT_OF_MEMORY"


def test_stop_ends_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    """A stopped trainer is gone within the grace time, even when deaf to SIGTERM."""
    stop = Stop()
    threading.Timer(0.5, stop.set, [StopReason.CANCELLED]).start()
    started = time.monotonic()
    with pytest.raises(StoppedError) as caught:
        run(
            tmp_path,
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
            stop,
        )
    assert caught.value.reason is StopReason.CANCELLED
    assert time.monotonic() - started < 4


def test_the_child_sees_no_setting_of_ours() -> None:
    """Credentials in HISTILL_* never reach the process that runs foreign teachers."""
    environment = {"HISTILL_S3__SECRET_KEY": "secret", "AWS_SECRET_ACCESS_KEY": "x", "PATH": "/bin"}
    passed = trainer_environment(environment, threads=2)
    assert passed == {"PATH": "/bin", "OMP_NUM_THREADS": "2", "PYTHONUNBUFFERED": "1"}


def test_several_processes_go_through_torchrun(tmp_path: Path) -> None:
    """One process starts the trainer itself, several start torch's launcher."""
    assert "torch.distributed.run" not in trainer_command(Workdir(tmp_path), processes=1)
    several = trainer_command(Workdir(tmp_path), processes=2)
    assert several[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_children_of_a_dead_launcher_are_ended_too(tmp_path: Path) -> None:
    """A launcher that is killed leaves no rank behind."""
    code = (
        "import os, pathlib, signal, subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    started = time.monotonic()
    with pytest.raises(WorkFailedError):
        run(tmp_path, code)
    assert time.monotonic() - started < 4
    deadline = time.monotonic() + 5
    while (child := command_lines().get(int((tmp_path / "pid").read_text()))) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    assert not child


def test_a_failing_listener_is_not_blamed_on_the_trainer(tmp_path: Path) -> None:
    """What our own callback raises is raised, and the child can still write."""

    def broken(_: str) -> None:
        raise ZeroDivisionError

    Workdir(tmp_path).write_result(RESULT)
    with pytest.raises(ZeroDivisionError):
        run_trainer(
            [
                sys.executable,
                "-c",
                "import sys; [print('x' * 999, file=sys.stderr) for _ in range(999)]",
            ],
            {},
            Workdir(tmp_path),
            Stop(),
            on_event=lambda _: None,
            on_log=broken,
            grace_s=0.3,
            drain_s=0.3,
        )


WRITER = """
import pathlib, sys, time
root = pathlib.Path(sys.argv[1])
while not (root / "checkpoint-wanted").exists():
    time.sleep(0.01)
(root / "checkpoint.part").write_bytes(b"state")
(root / "checkpoint.part").rename(root / "checkpoint.safetensors")
time.sleep(60)
"""


@pytest.mark.parametrize("reason", [StopReason.DRAINED, StopReason.CANCELLED])
def test_a_draining_worker_waits_for_one_more_checkpoint(
    tmp_path: Path, reason: StopReason
) -> None:
    """The next worker goes on from there; who is cancelled is asked for nothing."""
    stop = Stop()
    threading.Timer(0.5, stop.set, [reason]).start()
    folder = Workdir(tmp_path)
    code = f"import sys; sys.argv.append({str(tmp_path)!r})\n{WRITER}"
    with pytest.raises(StoppedError):
        run(tmp_path, code, stop, drain_s=20)
    assert folder.checkpoint.exists() is (reason is StopReason.DRAINED)


def test_a_trainer_that_writes_no_checkpoint_does_not_hold_up_a_drain(tmp_path: Path) -> None:
    """The wait has an end, and a trainer that ends meanwhile ends it too."""
    stop = Stop()
    stop.set(StopReason.DRAINED)
    start = time.monotonic()
    with pytest.raises(StoppedError):
        run(tmp_path, "import time; time.sleep(60)", stop, drain_s=0.5)
    with pytest.raises(StoppedError):
        run(tmp_path, "", stop, drain_s=60)
    assert time.monotonic() - start < 30
