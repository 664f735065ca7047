"""What ``histill doctor --end-to-end`` says of answers that the running system does not give."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from PIL import Image

from histill.api.distillation.v1 import job_pb2
from histill.api.segmentation.v1 import segmentation_service_pb2 as pb
from histill.cli import end_to_end, end_to_end_removal
from histill.cli.end_to_end_images import dice_of, discs, held_out, write_dataset
from histill.client import Segmentation
from histill.core.errors import (
    CorruptArtifactError,
    DeadlineExceededError,
    HistillError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StorageUnavailableError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from histill.cli.checks import Check


def answer(mask: np.ndarray, pixels: dict[int, int] | None = None) -> Segmentation:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    counted = pixels or {index: int((mask == index).sum()) for index in (0, 1)}
    classes = [pb.ClassSummary(index=index, pixels=count) for index, count in counted.items()]
    return Segmentation(buffer.getvalue(), pb.SegmentSummary(classes=classes))


def test_dice_is_one_for_the_right_mask_and_zero_for_none() -> None:
    """A mask of background only is a bad student, and no fault of the system."""
    _, labels = held_out()
    assert dice_of(answer(labels), labels) == 1.0
    assert dice_of(answer(np.zeros_like(labels)), labels) == 0.0


@pytest.mark.parametrize("wrong", ["turned", "areas", "classes", "bytes"])
def test_an_answer_that_does_not_fit_is_refused(wrong: str) -> None:
    """A mask of another size, areas that are not its own, an unknown class, no image."""
    _, labels = held_out()
    found = {
        "turned": answer(np.ascontiguousarray(labels.T)),
        "areas": answer(labels, {0: 1, 1: labels.size - 1}),
        "classes": answer(np.full_like(labels, 7)),
        "bytes": Segmentation(b"no image", pb.SegmentSummary()),
    }[wrong]
    with pytest.raises(CorruptArtifactError):
        dice_of(found, labels)


def test_the_data_are_the_same_each_time_and_hold_both_classes(tmp_path: Path) -> None:
    """Every image of a folder, and the one that is held out of it."""
    assert (discs(3)[0] == discs(3)[0]).all()
    write_dataset(tmp_path)
    labels = [np.asarray(Image.open(path)) for path in tmp_path.rglob("labels/*.png")]
    assert len(labels) == 10
    for each in (*labels, held_out()[1]):
        assert set(np.unique(each)) == {0, 1}


@dataclass
class System:
    """A client whose answers a test chooses.

    Attributes:
        states: Of the job, one a question; the last one stays. An error is raised.
        refused: What is raised when a dataset that is there is removed.
        masks: Answers of the inference service, one a question; an error is raised.
        left: What is there.
        lost: What becomes of an answer to a submission whose job is there; raised.
        refusal: What is raised instead of an effect of it.
        before: How many newer jobs of others there are.
        asked: What was asked for, and told.
    """

    states: list[job_pb2.Job | HistillError]
    refused: HistillError | None = None
    masks: list[HistillError] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    lost: BaseException | None = None
    refusal: HistillError | None = None
    before: int = 0
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = self.datasets = self.models = self.inference = self

    def push(self, _: Path, *, name: str, **__: Any) -> Any:
        self.left["dataset"] = f"{name}@1"
        return pb.ServedModel(reference=f"{name}@1")

    def submit(self, spec: dict[str, Any], *, pool: str) -> job_pb2.Job:
        self.asked.append(pool)
        if self.refusal:
            raise self.refusal
        self.left["job"] = spec["display_name"]
        if self.lost:
            raise self.lost
        return job_pb2.Job(name="jobs/00000000")

    def get(self, name: str) -> Any:
        if not name.startswith("jobs/"):
            if "dataset" not in self.left:
                raise NotFoundError(name)
            return pb.ServedModel(reference=self.left["dataset"])
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, HistillError):
            raise state
        return state

    def segment(self, _: bytes, *, model: str) -> Segmentation:
        self.asked.append(model)
        if self.masks:
            raise self.masks.pop(0)
        return answer(held_out()[1])

    def list(self, *, name: str = "") -> Iterator[job_pb2.Job]:
        if name:
            return
        self.asked.append("all jobs")
        for number in range(self.before):
            yield job_pb2.Job(name=f"jobs/{number + 1}", display_name="somebody's")
        if "job" in self.left:
            yield job_pb2.Job(name="jobs/00000000", display_name=self.left["job"])
        yield job_pb2.Job(name="jobs/11111111", display_name="somebody's")

    def cancel(self, _: str) -> None:
        pass

    def delete(self, name: str) -> None:
        kind = "job" if name.startswith("jobs/") else "dataset"
        if kind not in self.left:
            raise NotFoundError(name)
        assert name in {"jobs/00000000", self.left["dataset"]}
        if kind == "dataset" and self.refused:
            raise self.refused
        del self.left[kind]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Check]]:
    """Runs the check against a system, without its pauses."""
    for module, name in ((end_to_end, "_POLL_S"), (end_to_end_removal, "_EVENTS_S")):
        monkeypatch.setattr(module, name, 0.0)

    def run(system: System, *, wait_s: float = 20, keep: bool = False) -> dict[str, Check]:
        checks: dict[str, Check] = {}
        client: Any = system
        end_to_end.try_out(
            client,
            wait_s=wait_s,
            pool="small",
            keep=keep,
            report=lambda check: checks.update({check.name: check}),
            tell=system.asked.append,
        )
        return checks

    return run


SUCCEEDED = job_pb2.Job(
    state=job_pb2.JOB_STATE_SUCCEEDED, result_model="models/doctor-x/versions/3"
)


def test_what_is_away_for_a_moment_is_waited_for(
    tried: Callable[..., dict[str, Check]],
) -> None:
    """The jobs service while the job runs, and a model that inference does not see yet."""
    away = UnavailableError("no connection")
    queued = job_pb2.Job(state=job_pb2.JOB_STATE_QUEUED)
    system = System([queued, away, SUCCEEDED], masks=[NotFoundError("no such model"), away])
    checks = tried(system)
    assert all(check.ok for check in checks.values()), checks
    assert "Dice 1.00" in checks["segmentation"].detail
    assert system.asked == [
        "small",
        "queued: waiting for a worker",
        "the jobs service is away: no connection",
        *["doctor-x@3"] * 3,
    ]
    assert system.left == {}


def test_a_job_that_failed_says_why_and_what_helps(
    tried: Callable[..., dict[str, Check]],
) -> None:
    """With the words and the hint of the job, and all is removed."""
    failed = job_pb2.Job(state=job_pb2.JOB_STATE_FAILED)
    failed.error.message = "the trainer was killed"
    packed = any_pb2.Any()
    packed.Pack(error_details_pb2.ErrorInfo(metadata={"hint": "give it more memory"}))
    failed.error.details.append(packed)
    system = System([failed])
    checks = tried(system)
    assert (checks["training"].ok, checks["training"].detail) == (False, "the trainer was killed")
    assert checks["training"].remedy == "give it more memory"
    assert "segmentation" not in checks
    assert (checks["removal"].ok, system.left) == (True, {})


def test_what_cannot_be_removed_is_named(tried: Callable[..., dict[str, Check]]) -> None:
    """With why, and the rest is removed all the same."""
    system = System([SUCCEEDED], refused=StorageUnavailableError("S3 is away"))
    checks = tried(system)
    assert not checks["removal"].ok
    assert f"dataset {system.left['dataset']}: S3 is away" in checks["removal"].detail
    assert system.left.keys() == {"dataset"}


def test_a_removal_that_is_interrupted_is_told(
    tried: Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C ends it, and the name under which to look is told."""

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    system = System([SUCCEEDED])
    monkeypatch.setattr(system, "cancel", interrupted)
    checks = tried(system)
    assert not checks["removal"].ok
    assert system.left["job"] in checks["removal"].detail


def test_the_job_is_removed_by_its_name_however_many_came_after_it(
    tried: Callable[..., dict[str, Check]],
) -> None:
    """Nobody's jobs are looked through for it."""
    system = System([SUCCEEDED], before=1000)
    assert tried(system)["removal"].ok
    assert system.left == {}
    assert "all jobs" not in system.asked


@pytest.mark.parametrize("lost", [UnavailableError("gone"), DeadlineExceededError("late")])
def test_a_job_whose_name_never_came_is_looked_for_on_every_page(
    tried: Callable[..., dict[str, Check]], lost: HistillError
) -> None:
    """The answer was lost, and the job is there, behind many that came after it."""
    system = System([SUCCEEDED], lost=lost, before=1000)
    checks = tried(system)
    assert not checks["job"].ok
    assert (checks["removal"].ok, system.left) == (True, {})


def test_after_ctrl_c_while_it_is_submitted_the_job_is_looked_for(
    tried: Callable[..., dict[str, Check]],
) -> None:
    """It may be there, and is removed."""
    system = System([SUCCEEDED], lost=KeyboardInterrupt(), before=1000)
    with pytest.raises(KeyboardInterrupt):
        tried(system)
    assert system.left == {}


def test_what_is_kept_is_told(tried: Callable[..., dict[str, Check]]) -> None:
    """By its own names, and nothing is removed."""
    system = System([SUCCEEDED])
    detail = tried(system, keep=True)["removal"].detail
    name = system.left["job"]
    assert detail == (f"kept as {name}: dataset {name}@1, job jobs/00000000, model doctor-x@3")


def test_a_job_that_is_kept_while_it_runs_is_said_to(
    tried: Callable[..., dict[str, Check]],
) -> None:
    """With what ends it; there is no model yet."""
    system = System([job_pb2.Job(state=job_pb2.JOB_STATE_RUNNING)])
    checks = tried(system, wait_s=0, keep=True)
    assert not checks["training"].ok
    detail = checks["removal"].detail
    assert "job jobs/00000000; the job goes on, histill jobs cancel ends it" in detail
    assert "model" not in detail


def test_what_may_have_been_made_is_told_as_such(tried: Callable[..., dict[str, Check]]) -> None:
    """And what was refused was not made."""
    unsure = System([SUCCEEDED], lost=UnavailableError("gone"))
    detail = tried(unsure, keep=True)["removal"].detail
    assert detail.endswith("@1, perhaps a job; the job goes on, histill jobs cancel ends it")
    refused = System([SUCCEEDED], refusal=ResourceExhaustedError("enough"))
    detail = tried(refused, keep=True)["removal"].detail
    assert detail.endswith(f"dataset {refused.left['dataset']}")


def test_where_nothing_was_made_nothing_is_kept(
    tried: Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step was refused."""

    def refused(_: Path, **__: Any) -> None:
        raise ResourceExhaustedError("the quota is used up")

    system = System([SUCCEEDED])
    monkeypatch.setattr(system, "push", refused)
    assert tried(system, keep=True)["removal"].detail == "nothing was made"


def test_nothing_is_made_without_the_right_to_remove_it(
    tried: Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only one of the services refuses the key."""

    def refused(name: str) -> None:
        raise PermissionDeniedError("no") if name.startswith("jobs/") else NotFoundError(name)

    system = System([SUCCEEDED])
    monkeypatch.setattr(system, "delete", refused)
    checks = tried(system)
    assert checks.keys() == {"rights"}
    assert "role admin" in checks["rights"].detail
    assert system.left == {}
