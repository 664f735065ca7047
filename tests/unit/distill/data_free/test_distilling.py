"""A whole run: that it can be interrupted, what it does about failures, what it keeps."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
from structlog.testing import capture_logs

from histill.core.errors import WorkFailedError
from histill.distill.data_free.distilling import Distillation
from histill.distill.data_free.engine import Engine
from histill.distill.data_free.guard import Alarm, Check, Guard
from histill.distill.data_free.held import simple
from histill.distill.data_free.teachers import Council
from histill.distill.progress import Reporter
from histill.distill.run_checkpoint import RunCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from histill.distill.data_free.teachers import Heard
    from histill.distill.devices import Place

    Make = Callable[..., Engine]

LONG = {"steps": 24, "student_steps": 2}


class KilledError(Exception):
    """The process was killed."""


class Killing(Reporter):
    """Ends the run when a step is reached, before that round's checkpoint."""

    def __init__(self, at: int) -> None:
        super().__init__(None)
        self._at = at

    def report(self, stage: str, step: int = 0, steps: int = 0, **_: Any) -> None:
        del stage, steps
        if step >= self._at:
            raise KilledError


def checkpoints(folder: Path, place: Place, *, identity: str = "") -> RunCheckpoint:
    """One after every round."""
    return RunCheckpoint(folder / "checkpoint.safetensors", identity, place, every_s=0)


def outcome(run: Distillation, student: nn.Module) -> dict[str, torch.Tensor]:
    """All that a run ends with, as tensors: weights, curves, grids and new samples."""
    found = {f"student.{name}": tensor for name, tensor in student.state_dict().items()}
    for name, series in run.curves.values.items():
        if name != "step_seconds":
            found[f"curves.{name}"] = torch.tensor(series, dtype=torch.float64).nan_to_num(-1)
    found["steps"] = torch.tensor([*run.curves.steps, run.curves.kept_step, run.rollbacks])
    for number, grid in enumerate(run.curves.grids):
        found |= {f"grid.{number}.{k}": v for k, v in vars(grid).items() if torch.is_tensor(v)}
    found |= {f"samples.{kind}": run.engine.samples(kind, 4) for kind in run.engine.kinds}
    return found


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("segmentation", {}),
        ("classification", {}),
        ("segmentation", {"training": {"ema_decay": 0.9}, "generators": {"mode": "separate"}}),
        ("classification", {"generators": {"mode": "hard"}, "samples": {"rule": "rising"}}),
    ],
)
def test_a_resumed_run_ends_as_one_that_was_never_interrupted(
    task: str, parts: dict[str, Any], make_engine: Make, place: Place, tmp_path: Path
) -> None:
    """Bit for bit: student, curves, pictures, and the samples that are made afterwards."""
    parts = parts | {"training": LONG | parts.get("training", {})}
    checkpoint = checkpoints(tmp_path, place)
    whole = Distillation(make_engine(task, **parts), place, Reporter(None))
    expected = outcome(whole, whole.run())
    killed = Distillation(make_engine(task, **parts), place, Killing(10), checkpoint)
    with pytest.raises(KilledError):
        killed.run()
    assert killed.round == 5  # the checkpoint is of the round before
    torch.manual_seed(999)
    again = Distillation(make_engine(task, **parts), place, Reporter(None), checkpoint)
    with capture_logs() as logs:
        found = outcome(again, again.run())
    assert ("resumed", 8) in [(line["event"], line.get("step")) for line in logs]
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert again.curves.alarms == whole.curves.alarms


def test_a_resumed_run_can_still_go_back(make_engine: Make, place: Place, tmp_path: Path) -> None:
    """The last good state is in the checkpoint too, and the caution that was learnt."""
    checkpoint = checkpoints(tmp_path, place)
    guard = Scripted(script={3: Alarm.COLLAPSED})
    engine = make_engine(training=LONG)
    killed = Distillation(engine, place, Killing(10), checkpoint, guard=guard)
    with pytest.raises(KilledError):
        killed.run()
    run = Distillation(make_engine(training=LONG), place, Reporter(None))
    saved = checkpoint.read()
    assert saved is not None
    run.restore(saved.own)
    assert (run.engine.caution, run.rollbacks, run.round) == (1, 1, 4)
    assert run.good["round"] == 4
    good = {name: t.clone() for name, t in run.engine.student.state_dict().items()}
    run.engine.round(4, hard_share=0.5)
    run._react(Alarm.COLLAPSED)
    assert (run.engine.caution, run.rollbacks, run.round) == (2, 2, 4)
    assert all(torch.equal(t, good[n]) for n, t in run.engine.student.state_dict().items())


@dataclass
class Scripted(Guard):
    """Raises alarms at some checks by number, from 1, and never else."""

    script: dict[int, Alarm] = field(default_factory=dict)
    checks: int = 0

    def after_check(self, check: Check, *, settled: bool) -> Alarm | None:
        super().after_check(check, settled=settled)
        self.checks += 1
        return self.script.get(self.checks)


@dataclass(frozen=True)
class Ill(Council):
    """Answers NaN in some rounds, counted as they are run."""

    rounds: set[int] = field(default_factory=set)
    now: list[int] = field(default_factory=lambda: [0])

    def hear(self, images: torch.Tensor) -> Heard:
        heard = super().hear(images)
        return (
            heard._replace(logits=heard.logits * float("nan"))
            if self.now[0] in self.rounds
            else heard
        )


class Counting(Engine):
    """Tells its teachers when a round begins."""

    def round(self, number: int, *, hard_share: float) -> dict[str, float]:
        assert isinstance(self.council, Ill)
        self.council.now[0] += 1
        return super().round(number, hard_share=hard_share)


def ill_run(
    rounds: set[int],
    make_engine: Make,
    make_council: Callable[..., Council],
    place: Place,
    **training: Any,
) -> Distillation:
    council = Ill(**vars(make_council()), rounds=rounds)
    engine = make_engine(council=council, kind=Counting, training=LONG | training)
    return Distillation(engine, place, Reporter(None), guard=Scripted())


@pytest.mark.parametrize("rounds", [{1}, {6}, {5, 8}, {12}])
def test_answers_that_are_no_numbers_are_noticed_and_undone(
    rounds: set[int], make_engine: Make, make_council: Callable[..., Council], place: Place
) -> None:
    """Told in log and curves; the run goes back, on with more caution, and ends well."""
    run = ill_run(rounds, make_engine, make_council, place)
    with capture_logs() as logs:
        student = run.run()
    assert [alarm for _, alarm in run.curves.alarms] == [Alarm.DIVERGED] * len(rounds)
    assert run.curves.alarms[0][0] == 2 * min(rounds)
    told = [line for line in logs if line["event"] == "failure_noticed"]
    assert [line["kind"] for line in told] == ["DIVERGED"] * len(rounds)
    assert all(line["rolled_back"] for line in told)
    assert told[0]["to_step"] == 2 * min(rounds) - 2
    assert run.rollbacks == run.engine.caution == len(rounds)
    assert run.engine.finite
    assert all(bool(t.isfinite().all()) for t in student.state_dict().values())
    assert run.curves.steps[-1] == 24
    assert run.engine.memory.logits.isfinite().all()


@pytest.mark.parametrize("rollbacks", [0, 2])
def test_a_run_that_stays_broken_fails(
    rollbacks: int, make_engine: Make, make_council: Callable[..., Council], place: Place
) -> None:
    """When its rollbacks are spent, or there are none: never is a student of NaN returned."""
    run = ill_run(set(range(4, 99)), make_engine, make_council, place, rollbacks=rollbacks)
    with pytest.raises(WorkFailedError, match="the distillation diverged") as caught:
        run.run()
    assert caught.value.reason == "DIVERGED"
    assert "learning_rate" in caught.value.hint
    assert run.rollbacks == rollbacks
    assert len(run.curves.alarms) == rollbacks + 1


class Spoiling(Engine):
    """Its student is no number after one of the rounds, which no loss tells."""

    spoiled = False

    def round(self, number: int, *, hard_share: float) -> dict[str, float]:
        values = super().round(number, hard_share=hard_share)
        if number == self.rounds - 1 and not self.spoiled:
            self.spoiled = True
            with torch.no_grad():
                next(self.student.parameters()).fill_(float("nan"))
        return values


def test_what_the_very_last_step_broke_is_noticed(make_engine: Make, place: Place) -> None:
    """The last state is looked at too, and no student of NaN is a candidate."""
    engine = make_engine(kind=Spoiling)
    run = Distillation(engine, place, Reporter(None), guard=Scripted())
    student = run.run()
    assert run.curves.alarms == [(8, Alarm.DIVERGED)]
    assert all(bool(t.isfinite().all()) for t in student.state_dict().values())
    assert run.round == engine.rounds


class Alike(Engine):
    """Its samples all look alike from the sixth round on, until it was rolled back."""

    rounds_done = 0

    def round(self, number: int, *, hard_share: float) -> dict[str, float]:
        self.rounds_done += 1
        return super().round(number, hard_share=hard_share)

    def samples(self, kind: str, count: int) -> torch.Tensor:
        images = super().samples(kind, count)
        bad = self.rounds_done >= 6 and not self.caution
        return images[:1].expand_as(images) if bad else images


def test_a_state_in_which_a_failure_began_is_no_good_one(make_engine: Make, place: Place) -> None:
    """A slow failure is told at the third check; the run goes back to before the first."""
    run = Distillation(make_engine(kind=Alike, training=LONG), place, Reporter(None))
    with capture_logs() as logs:
        run.run()
    told = [line for line in logs if line["event"] == "failure_noticed"]
    assert [(line["kind"], line["step"], line["to_step"]) for line in told] == [
        ("COLLAPSED", 16, 10)
    ]


@pytest.mark.parametrize("rollbacks", [0, 1])
def test_a_failure_that_leaves_numbers_is_told_when_no_rollback_is_left(
    rollbacks: int, make_engine: Make, place: Place
) -> None:
    """The run goes on as it is."""
    script = {2: Alarm.COLLAPSED, 3: Alarm.DEAD_CLASS}
    engine = make_engine(training=LONG | {"rollbacks": rollbacks})
    run = Distillation(engine, place, Reporter(None), guard=Scripted(script=script))
    with capture_logs() as logs:
        run.run()
    told = [line for line in logs if line["event"] == "failure_noticed"]
    assert [line["rolled_back"] for line in told] == [True, False][1 - rollbacks :] + [False] * (
        1 - rollbacks
    )
    assert [alarm for _, alarm in run.curves.alarms] == list(script.values())
    assert run.engine.caution == run.rollbacks == rollbacks
    assert run.round == engine.rounds


def test_going_back_restores_weights_and_optimisers(make_engine: Make, place: Place) -> None:
    """Of the last good check, with the caution that was learnt since."""
    engine = make_engine(training=LONG)
    run = Distillation(engine, place, Reporter(None))
    good = {name: t.clone() for name, t in engine.student.state_dict().items()}
    engine.round(0, hard_share=0.5)
    run.round = 1
    run._react(Alarm.COLLAPSED)
    assert all(torch.equal(t, good[name]) for name, t in engine.student.state_dict().items())
    assert engine._optimizer.state_dict()["state"] == {}
    assert (run.round, engine.caution, run.rollbacks) == (0, 1, 1)
    engine.round(0, hard_share=0.5)  # the good state is kept apart from what is trained
    run._react(Alarm.COLLAPSED)
    assert all(torch.equal(t, good[name]) for name, t in engine.student.state_dict().items())
    assert (run.round, engine.caution) == (0, 2)


def test_when_disagreement_vanishes_g1_is_renewed(make_engine: Make, place: Place) -> None:
    """Its last layer only, after going back."""
    engine = make_engine()
    run = Distillation(engine, place, Reporter(None))
    assert engine.hard is not None
    before = {name: t.clone() for name, t in engine.hard.state_dict().items()}
    engine.round(0, hard_share=0.5)
    run._react(Alarm.VANISHED)
    changed = {n for n, t in engine.hard.state_dict().items() if not torch.equal(t, before[n])}
    assert changed == {"last.0.weight"}


def test_the_best_student_is_kept_rather_than_the_last(
    make_engine: Make, make_net: Callable[..., nn.Module], place: Place
) -> None:
    """By its agreement with the teachers on held samples; of equal ones the later."""
    engine = make_engine()
    run = Distillation(engine, place, Reporter(None))
    for kind in engine.kinds:
        images = engine.samples(kind, 16)
        run.held.banks[kind].add(images, engine.council.hear(images).logits)
    perfect, bad = (dict(make_net(seed=seed).state_dict()) for seed in (0, 5))
    net = make_net(seed=0)
    for step, weights in ((2, bad), (4, perfect), (6, perfect), (8, bad), (10, bad)):
        net.load_state_dict(weights)
        run.candidates.consider(step, net, run.candidates.compared(net))
    student = run._best()
    assert run.curves.kept_step == 6
    assert run.held.criterion(student) > 0.98  # held images are rounded
    assert all(torch.equal(t, perfect[name]) for name, t in student.state_dict().items())


def test_forgetting_is_measured_on_the_same_samples(
    make_engine: Make, make_net: Callable[..., nn.Module], place: Place
) -> None:
    """Against the best student yet on what is held now, however hard that has become."""
    engine = make_engine()
    run = Distillation(engine, place, Reporter(None))
    assert run.candidates.compared(make_net(seed=5)).forgotten == 0
    images = engine.samples("simple", 16)
    run.held.banks["simple"].add(images, engine.council.hear(images).logits)
    good, bad = make_net(seed=0), make_net(seed=5)
    run.candidates.consider(2, good, run.candidates.compared(good))
    kept, lost = (simple(run.held.agreement(net)) for net in (good, bad))
    assert run.candidates.compared(bad).forgotten == pytest.approx(kept - lost)
    assert run.candidates.compared(good).forgotten == 0


@pytest.mark.parametrize("broken", ["another order", "no file of ours"])
def test_a_checkpoint_that_does_not_fit_is_left_alone(
    broken: str, make_engine: Make, place: Place, tmp_path: Path
) -> None:
    """The run starts again, and says why."""
    one, two = (checkpoints(tmp_path, place, identity=name) for name in ("one", "two"))
    one.write({}, Distillation(make_engine(), place, Reporter(None)).state())
    if broken == "no file of ours":
        one.path.write_bytes(b"x" * 100)
    again = Distillation(make_engine(), place, Reporter(None), two)
    with capture_logs() as logs:
        again._resume()
    assert again.round == 0
    assert [line["text"] for line in logs] == ["the run starts again"]


def test_a_failure_that_stays_is_told_once(make_engine: Make, place: Place) -> None:
    """Without rollbacks the run goes on, and its log is not filled."""
    run = Distillation(make_engine(training={"rollbacks": 0}), place, Reporter(None))
    for alarm in (Alarm.VANISHED, Alarm.DEAD_CLASS, Alarm.VANISHED):
        run._react(alarm)
    assert [alarm for _, alarm in run.curves.alarms] == [Alarm.VANISHED, Alarm.DEAD_CLASS]


def test_a_rollback_takes_its_points_out_of_the_curves(make_engine: Make, place: Place) -> None:
    """Steps never run backwards; the alarm stays."""
    run = Distillation(make_engine(), place, Reporter(None))
    run.curves.add(10_000, {"loss": 1.0})
    run._react(Alarm.COLLAPSED)
    assert (run.curves.steps, run.curves.values["loss"]) == ([], [])
    assert [alarm for _, alarm in run.curves.alarms] == [Alarm.COLLAPSED]


def test_a_run_learns_what_its_teacher_says(make_engine: Make, place: Place) -> None:
    """Agreement on held samples rises, and the kept student has the most of it."""
    engine = make_engine(training={"steps": 160, "student_steps": 4})
    run = Distillation(engine, place, Reporter(None))
    student = run.run()
    series = run.curves.values["agreement_simple"]
    assert run.held.criterion(student) > 0.8
    assert series[-1] > series[0]


def test_curves_progress_and_checks_tell_of_the_run(make_engine: Make, place: Place) -> None:
    """Forty checks or fewer, a last event at the end, pictures of each generator now and then."""
    stream, checked = io.StringIO(), []
    run = Distillation(
        make_engine(training={"steps": 50, "student_steps": 1}),
        place,
        Reporter(stream),
        on_check=lambda step, student: checked.append((step, student.training)),
    )
    run.run()
    assert run.curves.steps == [step for step, _ in checked]
    assert len(checked) <= 40
    assert checked[-1] == (50, False)
    names = {
        "loss",
        "hard_loss",
        "hard_distance",
        "hard_apart",
        "hard_share",
        "spread",
        "forgetting",
    }
    assert names | {"agreement_hard", "agreement_simple"} <= run.curves.values.keys()
    shown = {(grid.step, grid.kind) for grid in run.curves.grids}
    assert {(step, kind) for step in (13, 25, 38, 50) for kind in ("hard", "simple")} <= shown
    assert all(len(grid.images) == 8 for grid in run.curves.grids)
    last = json.loads(stream.getvalue().splitlines()[-1])
    assert (last["progress"]["step"], last["progress"]["steps"]) == (50, 50)
    assert "agreement_simple" in last["metrics"]


def test_held_samples_are_never_trained_on(make_engine: Make, place: Place) -> None:
    """None of them is in the memory that the student learns from."""
    run = Distillation(make_engine(training=LONG, samples={"memory": 4096}), place, Reporter(None))
    run.run()
    remembered = {image.numpy().tobytes() for image in run.engine.memory.images}
    for bank in run.held.banks.values():
        assert len(bank) > 0
        assert not remembered & {image.numpy().tobytes() for image in bank.images}
