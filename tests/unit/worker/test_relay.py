"""The queue between the trainer's words and those who hear them."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from histill.core.errors import WorkFailedError
from histill.core.jobs import Progress
from histill.distill import trainer_process
from histill.distill.relay import Relay
from histill.distill.stops import Stop
from histill.distill.trainer_process import run_trainer
from histill.distill.workdir import RunEvent, Workdir

if TYPE_CHECKING:
    from pathlib import Path


def step(number: int) -> RunEvent:
    return RunEvent(progress=Progress(stage="training", step=number))


def test_when_it_is_full_the_oldest_lines_go_and_are_counted() -> None:
    """Progress stays, in its order, and whoever reads the log sees where lines are missing."""
    free, heard = threading.Event(), list[str]()

    def hear(text: str) -> None:
        free.wait(10)
        heard.append(text)

    relay = Relay(lambda event: heard.append(f"step {event.progress.step}"), hear, most=4)
    relay.put("taken")
    deadline = time.monotonic() + 5
    while relay._waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    for said in (step(1), "a", "b", "c", "d", step(2)):
        relay.put(said)
    free.set()
    relay.close(wait_s=5)
    dropped = "2 lines are left out here: Redis was too slow for them"
    assert heard == ["taken", dropped, "step 1", "c", "d", "step 2"]


def test_of_progress_alone_the_newest_is_kept() -> None:
    """It says most."""
    free, heard = threading.Event(), list[int]()

    def hear(event: RunEvent) -> None:
        free.wait(10)
        heard.append(event.progress.step)

    relay = Relay(hear, lambda _: None, most=2)
    relay.put(step(0))
    deadline = time.monotonic() + 5
    while relay._waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    for number in range(1, 9):
        relay.put(step(number))
    free.set()
    relay.close(wait_s=5)
    assert heard == [0, 7, 8]


def test_after_its_end_nothing_is_told() -> None:
    """What waits behind a listener that hangs is given up, and nothing new is taken."""
    free, heard = threading.Event(), list[str]()

    def hear(text: str) -> None:
        free.wait(10)
        heard.append(text)

    relay = Relay(lambda _: None, hear)
    for text in "abc":
        relay.put(text)
    time.sleep(0.1)
    start = time.monotonic()
    relay.close(wait_s=0.2)
    assert time.monotonic() - start < 2
    relay.put("d")
    free.set()
    time.sleep(0.1)
    assert heard == ["a"]


def test_a_redis_that_hangs_does_not_stop_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer writes far more than a pipe holds, and ends long before anybody hears it."""
    monkeypatch.setattr(trainer_process, "_HEARD_OUT_S", 0.2)
    free = threading.Event()

    def hang(_: str) -> None:
        free.wait(30)

    code = "print(('x' * 99 + chr(10)) * 5000); raise SystemExit(3)"
    start = time.monotonic()
    with pytest.raises(WorkFailedError, match="exit code 3"):
        run_trainer(
            [sys.executable, "-c", code],
            {},
            Workdir(tmp_path),
            Stop(),
            on_event=lambda _: None,
            on_log=hang,
            grace_s=0.3,
            drain_s=0.3,
        )
    free.set()
    assert time.monotonic() - start < 15
