"""A data-free distillation from its first round to its last."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
import torch

from histill.core.errors import WorkFailedError
from histill.distill.data_free import checkpoint
from histill.distill.data_free.curves import Curves, thumbnails
from histill.distill.data_free.guard import Alarm, Check, Guard
from histill.distill.data_free.held import Held
from histill.distill.data_free.sharing import hard_share
from histill.distill.reasons import DIVERGED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

    from histill.distill.data_free.engine import Engine
    from histill.distill.devices import Place
    from histill.distill.progress import Reporter

log = structlog.get_logger()

_CHECKS = 40  # of a run
_GRIDS = 4  # moments of a run at which samples are kept for the report
_SHOWN = 8  # samples of each generator at such a moment
_SETTLED = 0.2  # share of the run before which only divergence is a failure
_NEWS = 0.3  # weight of a check in the running mean of agreement
_HELD = 256  # samples of each generator that are never trained on
_CANDIDATES = 5  # states among which the best is chosen


@dataclass(frozen=True, eq=False)
class Candidate:
    """A student that may be kept.

    Attributes:
        step: That it had reached.
        score: Its agreement on the samples that were held then, in [0, 1].
        weights: Its state.
    """

    step: int
    score: float
    weights: dict[str, Tensor]


@dataclass
class Distillation:
    """A run: the engine, what watches it, and where it is.

    Attributes:
        engine: What learns.
        place: This process.
        reporter: Hears about progress.
        path: Of the checkpoint; ``None`` writes none.
        every_s: Seconds between checkpoints.
        on_check: Called after each check with the step and the student in eval mode.
    """

    engine: Engine
    place: Place
    reporter: Reporter
    path: Path | None = None
    every_s: float = 60.0
    on_check: Callable[[int, nn.Module], None] | None = None
    curves: Curves = field(default_factory=Curves)
    guard: Guard = field(default_factory=Guard)
    round: int = 0
    forgetting: float = 0.0
    smoothed: float = 0.0
    best: float = 0.0
    rollbacks: int = 0
    held: Held = field(init=False)
    good: dict[str, Any] = field(init=False)
    candidates: list[Candidate] = field(default_factory=list)
    told: set[Alarm] = field(default_factory=set)

    def __post_init__(self) -> None:
        seed = self.engine.spec.training.seed
        self.held = Held(_HELD, seed=seed + 1, device=self.place.device)
        self.good = self._snapshot()

    def run(self) -> nn.Module:
        """Goes on to the end, from the checkpoint if there is one.

        Returns:
            The best student by its agreement with the teachers on held samples.

        Raises:
            WorkFailedError: DIVERGED; it still did so when all rollbacks were spent, or there
                were none to spend and nothing is left that could go on.
        """
        if self.path is not None and self.path.exists():
            self.restore(checkpoint.load(self.path))
            log.info("resumed", step=self._step)
        engine, started, first = self.engine, time.monotonic(), self.round
        saved = last = started
        while self.round < engine.rounds:
            share = hard_share(
                engine.spec.samples,
                progress=self.round / engine.rounds,
                forgetting=self.forgetting,
            )
            values = engine.round(self.round, hard_share=share) | {"hard_share": share}
            losses = [values["loss"], *(v for k, v in values.items() if k.endswith("_loss"))]
            alarm = self.guard.after_round(losses)
            self.round += 1
            if not alarm and self.round in self._checks:
                alarm = self._check(values)
            if (agreed := self._agreed(alarm)) is not None:
                self._react(agreed)
            now = time.monotonic()
            left = (now - started) / (self.round - first or 1) * (engine.rounds - self.round)
            steps = engine.spec.training.student_steps
            values["step_seconds"], last = (now - last) / steps, now
            self.reporter.report(
                "training",
                self._step,
                engine.spec.training.steps,
                eta_seconds=max(0.0, left),
                metrics=values,
                force=self.round in self._checks,
            )
            if self.path is not None and now - saved > self.every_s:
                checkpoint.save(self.path, self.state())
                saved = now
        return self._best()

    @property
    def _step(self) -> int:
        """Steps of the student that are done."""
        training = self.engine.spec.training
        return min(self.round * training.student_steps, training.steps)

    @property
    def _checks(self) -> set[int]:
        """Rounds after which to look."""
        rounds = self.engine.rounds
        return {math.ceil(rounds * (i + 1) / _CHECKS) for i in range(_CHECKS)}

    def _check(self, values: dict[str, float]) -> Alarm | None:
        """Looks at held and new samples, and notes what it sees."""
        engine = self.engine
        spread, shows = math.inf, self._shows
        held = engine.spec.training.batch_size // 2
        for kind in engine.kinds:
            images = engine.samples(kind, _SHOWN + held)
            with torch.no_grad():
                said = engine.council.hear(images).logits
                answers = engine.kept.eval()(images)
            self.held.banks[kind].add(images[_SHOWN:], said[_SHOWN:])
            spread = min(spread, float(images.std(dim=0).mean()))
            if shows:
                shown = (x[:_SHOWN] for x in (images, said, answers))
                self.curves.grids.append(thumbnails(self._step, kind, *shown))
        agreed = self.held.agreement(engine.kept)
        simple = agreed.get("simple", agreed.get("hard", 0.0))
        self._forget(simple)
        self.curves.add(
            self._step,
            values
            | {f"agreement_{kind}": value for kind, value in agreed.items()}
            | {"forgetting": self.forgetting, "spread": spread},
        )
        if self.on_check is not None:
            self.on_check(self._step, engine.kept)
        check = Check(simple, spread, values.get("hard_apart", math.nan), engine.shares)
        values |= {f"agreement_{kind}": value for kind, value in agreed.items()}
        settled = self.round >= _SETTLED * engine.rounds
        alarm = self.guard.after_check(check, settled=settled)
        if not engine.finite:  # the last step may have left what no loss has told of yet
            alarm = Alarm.DIVERGED
        if alarm is None and not any(self.guard.seen.values()):  # no failure is on its way
            self.good = self._snapshot()
        if alarm is not Alarm.DIVERGED:
            self._consider(sum(agreed.values()) / len(agreed))
        return alarm

    def _consider(self, score: float) -> None:
        """Takes the student among those of which the best is kept: the last, and the best yet."""
        weights = {k: v.clone() for k, v in self.engine.kept.state_dict().items()}
        self.candidates.append(Candidate(self._step, score, weights))
        if len(self.candidates) > _CANDIDATES:
            best = max(self.candidates, key=lambda one: one.score)
            self.candidates.remove(next(one for one in self.candidates if one is not best))

    def _forget(self, agreement: float) -> None:
        """Notes how far agreement on simple samples is below its best, both smoothed."""
        before = self.smoothed if self.curves.steps else agreement
        self.smoothed = before + _NEWS * (agreement - before)
        self.best = max(self.best, self.smoothed)
        self.forgetting = max(0.0, self.best - self.smoothed)

    def _agreed(self, alarm: Alarm | None) -> Alarm | None:
        """One alarm for all processes, which must do the same."""
        alarms = list(Alarm)
        found = self.place.largest(0 if alarm is None else 1 + alarms.index(alarm))
        return alarms[found - 1] if found else None

    def _react(self, alarm: Alarm) -> None:
        """Goes back after a failure while it may, else goes on or gives up."""
        allowed = self.engine.spec.training.rollbacks
        if self.rollbacks < allowed:
            self.curves.alarms.append((self._step, alarm))
            self._go_back(alarm)
        elif alarm is Alarm.DIVERGED and (allowed or not self.engine.finite):
            self.curves.alarms.append((self._step, alarm))
            raise WorkFailedError(
                f"the distillation diverged again after {allowed} rollbacks"
                if allowed
                else "the distillation diverged, and training.rollbacks is 0",
                reason=DIVERGED,
                hint="Lower training.learning_rate or generators.adversarial_weight.",
            )
        elif alarm not in self.told:  # a failure that stays would be told every round
            self.told.add(alarm)
            self.curves.alarms.append((self._step, alarm))
            log.warning("failure_noticed", kind=alarm, step=self._step, rolled_back=False)

    def _go_back(self, alarm: Alarm) -> None:
        """To the last good state, and on from there with more caution."""
        failed, caution = self._step, self.engine.caution + 1
        self.rollbacks += 1
        self.round = self.good["round"]
        self.engine.restore(copy.deepcopy(self.good["engine"]))
        self.engine.caution = caution
        self.guard.restore(self.good["guard"])
        self.curves.cut(self._step)
        if alarm is Alarm.VANISHED:
            self.engine.renew_hard(seed=self.engine.spec.training.seed + self.rollbacks)
        log.warning(
            "failure_noticed",
            kind=alarm,
            step=failed,
            rolled_back=True,
            to_step=self._step,
            adversarial_weight=self.engine.spec.generators.adversarial_weight / 2**caution,
        )

    @property
    def _shows(self) -> bool:
        """Whether this check is one of those whose samples the report shows."""
        due = {math.ceil(self.engine.rounds * (i + 1) / _GRIDS) for i in range(_GRIDS)}
        return self.round in due or not self.curves.grids

    def _best(self) -> nn.Module:
        """The candidate that agrees best with the teachers on all held samples."""
        student = self.engine.kept
        scores = []
        for candidate in self.candidates:
            student.load_state_dict(candidate.weights)
            scores.append((self.held.criterion(student), candidate.step))
        if scores:
            score, self.curves.kept_step = max(scores)
            student.load_state_dict(self.candidates[scores.index(max(scores))].weights)
            log.info("best_kept", step=self.curves.kept_step, agreement=round(score, 4))
        return student

    def _snapshot(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "engine": copy.deepcopy(self.engine.state()),
            "guard": copy.deepcopy(self.guard.state()),
        }

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            **self._snapshot(),
            "good": self.good,
            "memory": self.engine.memory.state(),
            "held": self.held.state(),
            "curves": self.curves.state(),
            "candidates": [vars(candidate) for candidate in self.candidates],
            "told": sorted(self.told),
            "forgetting": [self.forgetting, self.smoothed, self.best],
            "rollbacks": self.rollbacks,
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self.round, self.good = state["round"], state["good"]
        self.forgetting, self.smoothed, self.best = state["forgetting"]
        self.rollbacks = state["rollbacks"]
        self.engine.restore(state["engine"])
        self.engine.memory.restore(state["memory"])
        self.guard.restore(state["guard"])
        self.held.restore(state["held"])
        self.curves = Curves.restored(state["curves"], Alarm)
        self.candidates = [Candidate(**stored) for stored in state["candidates"]]
        self.told = {Alarm(name) for name in state["told"]}
        torch.set_rng_state(state["random"])
