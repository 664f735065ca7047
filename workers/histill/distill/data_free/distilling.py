"""A data-free distillation from its first round to its last."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog
import torch

from histill.core.errors import WorkFailedError
from histill.distill.data_free.candidates import Candidates
from histill.distill.data_free.curves import Curves, thumbnails
from histill.distill.data_free.guard import Alarm, Check, Guard
from histill.distill.data_free.held import Held
from histill.distill.data_free.sharing import hard_share
from histill.distill.reasons import DIVERGED
from histill.distill.run_checkpoint import random_state, restore_random

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from histill.distill.data_free.engine import Engine
    from histill.distill.devices import Place
    from histill.distill.progress import Reporter
    from histill.distill.run_checkpoint import RunCheckpoint

log = structlog.get_logger()

_CHECKS = 40  # of a run
_GRIDS = 4  # moments of a run at which samples are kept for the report
_SHOWN = 8  # samples of each generator at such a moment
_SETTLED = 0.2  # share of the run before which only divergence is a failure
_HELD = 256  # samples of each generator that are never trained on


@dataclass
class Distillation:
    """A run: the engine, what watches it, and where it is.

    Attributes:
        engine: What learns.
        place: This process.
        reporter: Hears about progress.
        checkpoint: Where it writes its state and goes on from; ``None`` does neither.
        on_check: Called after each check with the step and the student in eval mode.
    """

    engine: Engine
    place: Place
    reporter: Reporter
    checkpoint: RunCheckpoint | None = None
    on_check: Callable[[int, nn.Module], None] | None = None
    curves: Curves = field(default_factory=Curves)
    guard: Guard = field(default_factory=Guard)
    round: int = 0
    forgetting: float = 0.0
    rollbacks: int = 0
    held: Held = field(init=False)
    candidates: Candidates = field(init=False)
    good: dict[str, Any] = field(init=False)
    told: set[Alarm] = field(default_factory=set)

    def __post_init__(self) -> None:
        seed = self.engine.spec.training.seed
        self.held = Held(_HELD, seed=seed + 1, device=self.place.device)
        self.candidates = Candidates(self.engine.kept, self.held)
        self.good = self._snapshot()

    def run(self) -> nn.Module:
        """Goes on to the end, from the checkpoint if there is one.

        Returns:
            The best student by its agreement with the teachers on held samples.

        Raises:
            WorkFailedError: DIVERGED; it still did so when all rollbacks were spent, or there
                were none to spend and nothing is left that could go on.
        """
        self._resume()
        engine, started, first = self.engine, time.monotonic(), self.round
        last = started
        while self.round < engine.rounds:
            share = hard_share(
                engine.spec.samples,
                progress=self.round / engine.rounds,
                forgetting=self.forgetting,
            )
            values = engine.round(self.round, hard_share=share)
            losses = [values["loss"], *(v for k, v in values.items() if k.endswith("_loss"))]
            alarm = self.guard.after_round(losses)
            self.round += 1
            checked = self.round in self._checks
            if checked and alarm is None:
                alarm = self._check(values)
            # All processes must go back to the same round, or none.
            if (agreed := self._agreed(alarm)) is not None:
                self._react(agreed)
            elif checked and self.place.everywhere(fact=not any(self.guard.seen.values())):
                self.good = self._snapshot()
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
                force=checked,
            )
            if self.checkpoint is not None and self.checkpoint.due():
                # Each process has samples, norms and chance of its own.
                self.checkpoint.write({}, self.state())
        return self._best()

    @property
    def _step(self) -> int:
        """Steps of the student that are done."""
        training = self.engine.spec.training
        return min(self.round * training.student_steps, training.steps)

    @cached_property
    def _checks(self) -> set[int]:
        """Rounds after which to look."""
        return self._evenly(_CHECKS)

    def _evenly(self, times: int) -> set[int]:
        """So many rounds, evenly spaced, the last of the run among them."""
        return {math.ceil(self.engine.rounds * (i + 1) / times) for i in range(times)}

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
        found = self.candidates.compared(engine.kept)
        self.forgetting = found.forgotten
        values |= {f"agreement_{kind}": value for kind, value in found.now.items()}
        self.curves.add(self._step, values | {"forgetting": self.forgetting, "spread": spread})
        if self.on_check is not None:
            self.on_check(self._step, engine.kept)
        apart = values.get("hard_apart", math.nan)
        check = Check(self.forgetting, spread, apart, engine.shares)
        settled = self.round >= _SETTLED * engine.rounds
        alarm = self.guard.after_check(check, settled=settled)
        if not engine.finite:  # the last step may have left what no loss has told of yet
            return Alarm.DIVERGED
        if alarm is None or self.rollbacks >= engine.spec.training.rollbacks:
            self.candidates.consider(self._step, engine.kept, found)
        return alarm

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
        failed, cautions = self._step, [*self.engine.cautions, str(alarm)]
        self.rollbacks += 1
        self._return_to(self.good)
        self.engine.cautions = cautions
        self.curves.cut(self._step)
        if alarm is Alarm.VANISHED:
            self.engine.renew_hard(seed=self.engine.spec.training.seed + self.rollbacks)
        log.warning(
            "failure_noticed",
            kind=alarm,
            step=failed,
            rolled_back=True,
            to_step=self._step,
            caution=self.engine.caution,
        )

    @property
    def _shows(self) -> bool:
        """Whether this check is one of those whose samples the report shows."""
        return self.round in self._evenly(_GRIDS) or not self.curves.grids

    def _best(self) -> nn.Module:
        """The candidate that agrees best with the teachers on all held samples."""
        student = self.engine.kept
        if (chosen := self.candidates.chosen()) is not None:
            score, candidate = chosen
            student.load_state_dict(candidate.weights)
            self.curves.kept_step = candidate.step
            log.info("best_kept", step=candidate.step, agreement=round(score, 4))
        return student

    def _resume(self) -> None:
        """Goes on from the checkpoint, if there is one that can be read and is of this order."""
        saved = None if self.checkpoint is None else self.checkpoint.read()
        if saved is None:
            return
        self.restore(saved.own)
        if self.place.first:
            log.info("resumed", step=self._step)
        self.reporter.report("training", self._step, self.engine.spec.training.steps, force=True)

    def _snapshot(self) -> dict[str, Any]:
        return {
            "round": self.round,
            "engine": copy.deepcopy(self.engine.state()),
            "guard": copy.deepcopy(self.guard.state()),
            "candidates": self.candidates.state(),
            "forgetting": self.forgetting,
        }

    def _return_to(self, snapshot: dict[str, Any]) -> None:
        self.round, self.forgetting = snapshot["round"], snapshot["forgetting"]
        self.engine.restore(copy.deepcopy(snapshot["engine"]))
        self.guard.restore(snapshot["guard"])
        self.candidates.restore(snapshot["candidates"])

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            **self._snapshot(),
            "good": self.good,
            "memory": self.engine.memory.state(),
            "held": self.held.state(),
            "curves": self.curves.state(),
            "told": sorted(self.told),
            "rollbacks": self.rollbacks,
            "random": random_state(self.place.device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self._return_to(state)
        self.good, self.rollbacks = state["good"], state["rollbacks"]
        self.engine.memory.restore(state["memory"])
        self.held.restore(state["held"])
        self.curves = Curves.restored(state["curves"], Alarm)
        self.told = {Alarm(name) for name in state["told"]}
        restore_random(state["random"], self.place.device)
