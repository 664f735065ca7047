"""When a checkpoint is written, and which one fits a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import SafetensorError
from structlog.testing import capture_logs

import manifests
from histill.core.specs import MultiTeacherSpec, TrainingSpec
from histill.distill import checkpoint_file, run_checkpoint
from histill.distill.devices import Place
from histill.distill.run_checkpoint import RunCheckpoint, Saved, identity_of
from histill.distill.workdir import CHECKPOINT_WANTED, RunOrder

if TYPE_CHECKING:
    from pathlib import Path

PLACE = Place(torch.device("cpu"))


def order(**changes: Any) -> RunOrder:
    """Distils one teacher."""
    spec = MultiTeacherSpec(dataset="blobs", output_model="m", teachers=("teacher",))
    fields = {"job": "jobs/1", "attempt": 1, "spec": spec, "dataset": manifests.dataset()}
    return RunOrder.model_validate(fields | {"teachers": (manifests.model(),)} | changes)


def checkpoint(folder: Path, **changes: Any) -> RunCheckpoint:
    """One of the order "one"."""
    fields: dict[str, Any] = {
        "path": folder / "checkpoint.safetensors",
        "identity": "one",
        "place": PLACE,
    }
    return RunCheckpoint(**(fields | changes))


def test_another_attempt_at_one_order_fits() -> None:
    """Neither the attempt nor intervals and caches change the student."""
    other = order(attempt=2, checkpoint_s=1.0, teacher_cache="/cache", teacher_cache_bytes=5)
    assert identity_of(other, 1) == identity_of(order(), 1)


@pytest.mark.parametrize("what", ["spec", "dataset", "teachers", "job"])
def test_another_order_does_not_fit(what: str) -> None:
    """Nor does one of another spec, dataset, teacher or job."""
    spec = order().spec.model_copy(update={"training": TrainingSpec(seed=1)})
    changed = {
        "spec": spec,
        "dataset": manifests.dataset(version=2),
        "teachers": (manifests.model(version=2),),
        "job": "jobs/2",
    }
    assert identity_of(order(**{what: changed[what]}), 1) != identity_of(order(), 1)


def test_another_number_of_processes_or_format_does_not_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each process has a state of its own, and an older program another idea of it."""
    one = identity_of(order(), 1)
    assert identity_of(order(), 2) != one
    monkeypatch.setattr(run_checkpoint, "FORMAT", run_checkpoint.FORMAT + 1)
    assert identity_of(order(), 1) != one


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """By another run of the same order."""
    checkpoint(tmp_path).write({"step": 3}, {"mine": torch.ones(2)})
    found = checkpoint(tmp_path).read()
    assert isinstance(found, Saved)
    assert found.shared == {"step": 3}
    assert torch.equal(found.own["mine"], torch.ones(2))


@pytest.mark.parametrize(
    ("broken", "event"),
    [
        ("nothing", None),
        ("another order", "checkpoint_of_another_order"),
        ("text", "checkpoint_unreadable"),
        ("cut", "checkpoint_unreadable"),
        ("damaged", "checkpoint_unreadable"),
        ("no tree of ours", "checkpoint_of_another_order"),
    ],
)
def test_what_does_not_fit_is_left_alone(broken: str, event: str | None, tmp_path: Path) -> None:
    """The run starts again and says why; the file stays until the next one replaces it."""
    mine = checkpoint(tmp_path)
    if broken != "nothing":
        mine.write({"step": 3}, {"mine": torch.arange(100.0)})
        whole = mine.path.read_bytes()
        after = {
            "text": b"x" * 100,
            "cut": whole[: len(whole) // 2],
            "damaged": whole[:-9] + b"!" + whole[-8:],
        }
        if broken in after:
            mine.path.write_bytes(after[broken])
        if broken == "no tree of ours":
            checkpoint_file.save(mine.path, [1])
    before = mine.path.read_bytes() if mine.path.exists() else b""
    reader = checkpoint(tmp_path, identity="two") if broken == "another order" else mine
    with capture_logs() as logs:
        assert reader.read() is None
    assert [line["event"] for line in logs] == ([event] if event else [])
    assert all(line["text"] == "the run starts again" for line in logs)
    assert (mine.path.read_bytes() if mine.path.exists() else b"") == before


def test_one_is_due_when_the_interval_is_over(tmp_path: Path) -> None:
    """Counted from the start and from the last one; with 0 always."""
    now = [0.0]
    mine = checkpoint(tmp_path, every_s=10.0, clock=lambda: now[0])
    seen = []
    for second in (0, 9, 10, 15, 20, 21, 30):
        now[0] = float(second)
        seen.append(mine.due())
        if seen[-1]:
            mine.write({}, {})
    assert seen == [False, False, True, False, True, False, True]
    assert checkpoint(tmp_path, every_s=0.0, clock=lambda: 0.0).due()


@pytest.mark.parametrize("error", [OSError(28, "No space left"), SafetensorError("I/O error")])
def test_a_full_disk_does_not_end_the_run(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told, and the old checkpoint stays."""
    mine = checkpoint(tmp_path)
    mine.write({"step": 1}, {})

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint_file, "save_file", full)
    with capture_logs() as logs:
        mine.write({"step": 2}, {})
    assert [line["event"] for line in logs] == ["checkpoint_not_written"]
    found = mine.read()
    assert found is not None
    assert found.shared == {"step": 1}


def test_one_that_is_wanted_is_due_at_once(tmp_path: Path) -> None:
    """A supervisor that must stop makes a file; it is gone when the checkpoint is there."""
    mine = checkpoint(tmp_path, every_s=1000.0)
    assert not mine.due()
    (tmp_path / CHECKPOINT_WANTED).touch()
    assert mine.due()
    mine.write({}, {})
    assert not mine.due()
    assert mine.read() == Saved({}, {})
