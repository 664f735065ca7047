"""A short run of the loop that ``make chaos`` runs for as long as one likes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from chaos import loop
from chaos.faults import Fault, every_fault
from chaos.loop import Story, orphans_of, run
from chaos.watchers import Watcher
from fakes import MemoryObjects, MemoryVersions
from histill.api.distillation.v1 import job_pb2
from histill.core import catalog
from histill.core.catalog import DATASETS
from histill.core.manifests import DatasetManifest, LabelKind

if TYPE_CHECKING:
    from pathlib import Path

_KINDS = 6


@pytest.mark.timeout(900)
def test_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    """One of each of the first kinds of faults: one result a job, all students equal."""
    (tmp_path / "system").mkdir()
    story = run(tmp_path, seed=1, rounds=1, kinds=_KINDS)
    assert story.complaints == []
    assert (story.losses, story.doubles, story.orphans) == (0, 0, 0)
    assert sum(story.faults.values()) == _KINDS
    assert story.states == {"SUCCEEDED": _KINDS + 1}
    assert max(seconds for seconds, _ in story.recoveries) < 60


def test_every_kind_of_fault_has_a_name_of_its_own(tmp_path: Path) -> None:
    """The counts that are printed are by name."""
    names = [fault.name for fault in every_fault(tmp_path)]
    assert len(set(names)) == len(names)


def test_what_belongs_to_nothing_is_found(tmp_path: Path) -> None:
    """Half a dataset, a file that no manifest names, a model that no job has as its result."""
    objects = MemoryObjects()
    shard = tmp_path / "shard-0.tar"
    shard.write_bytes(b"shard")
    dataset = DatasetManifest(
        name="d",
        version=0,
        classes=("background", "object"),
        channels=3,
        label_kind=LabelKind.SEMANTIC,
        splits={"train": 1, "val": 1},
        create_time=datetime(2026, 1, 1, tzinfo=UTC),
        files=(catalog.file_of(shard),),
    )
    catalog.publish(objects, MemoryVersions(), DATASETS, dataset, [shard])
    objects.put("jobs/j/job.json", b"{}")
    assert list(orphans_of(objects, {"jobs/j"}, set())) == []
    left = ["datasets/d/1/shard-1.tar", "datasets/d/2/shard-0.tar", "jobs/k/job.json",
            "models/student/1/weights.safetensors"]  # fmt: skip
    for key in left:
        objects.put(key, b"left")
    assert list(orphans_of(objects, {"jobs/j"}, set())) == left


def test_a_job_that_does_not_go_on_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that stops a job for good cannot pass for one that it survived."""
    monkeypatch.setattr(loop, "_RECOVERY_S", 0.2)
    running = job_pb2.JobEvent(event_id="1-0", attempt=1, state=job_pb2.JOB_STATE_RUNNING)
    watcher = Watcher(cast("Any", None), "jobs/j", seen=[(time.monotonic() - 1, running)])
    story = Story()
    fault = Fault("none", lambda *_: None)
    loop._note_recovery(story, fault, [watcher], time.monotonic())
    assert story.complaints == ["jobs/j did not go on within 0 s of: none"]
