"""Notices a run that goes wrong: each way has a name, and is told."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOST = 0.25  # of the agreement on simple samples
_EXPLODED = 20.0  # times the median of recent losses
_RECENT = 50  # losses
_ALIKE = 1.0  # bytes: mean spread of a pixel over a batch, of which all samples look alike
_AGREED = 1e-3  # disagreement relative to the size of the teachers' logits
_RARE = 0.05  # of the least share that a class should have
_PATIENCE = 3  # checks in a row that must find a slow failure


class Alarm(StrEnum):
    """A way in which a run fails.

    DIVERGED: a loss is not finite, or a multiple of what it was. COLLAPSED: the student
    has lost what it knew, or the samples all look alike. VANISHED: student and teachers
    agree on everything that G1 makes, which then teaches nothing. DEAD_CLASS: a class does
    not occur in samples any more.
    """

    DIVERGED = "DIVERGED"
    COLLAPSED = "COLLAPSED"
    VANISHED = "VANISHED"
    DEAD_CLASS = "DEAD_CLASS"


@dataclass(frozen=True)
class Check:
    """What is looked at now and then.

    Attributes:
        forgotten: Agreement on simple samples that the student has lost since its best, both
            on the same samples, in [0, 1].
        spread: Standard deviation of a pixel over a batch of samples, mean over pixels, in
            units of a byte.
        apart: Disagreement on G1's samples relative to the mean size of the teachers'
            centred logits; NaN without G1.
        shares: Of each class in recent samples, relative to the least that it should have.
    """

    forgotten: float
    spread: float
    apart: float
    shares: Sequence[float]


@dataclass
class Guard:
    """Looks at each round's loss, and at a check now and then."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    seen: dict[str, int] = field(default_factory=dict)

    def after_round(self, losses: Sequence[float]) -> Alarm | None:
        """DIVERGED, if one of a round's losses says so; the first is the student's."""
        if not all(map(math.isfinite, losses)):
            return Alarm.DIVERGED
        usual = sorted(self.losses)[len(self.losses) // 2] if len(self.losses) == _RECENT else None
        if usual is not None and losses[0] > _EXPLODED * max(usual, 1e-6):
            return Alarm.DIVERGED
        self.losses.append(losses[0])
        return None

    def after_check(self, check: Check, *, settled: bool) -> Alarm | None:
        """The alarm that a check raises, if any.

        Args:
            check: What was seen.
            settled: The run is past its beginning, where anything may be.
        """
        slow = {
            Alarm.COLLAPSED: check.spread < _ALIKE,
            Alarm.VANISHED: check.apart < _AGREED,
            Alarm.DEAD_CLASS: min(check.shares) < _RARE,
        }
        for alarm, found in slow.items():
            self.seen[alarm] = self.seen.get(alarm, 0) + 1 if found and settled else 0
        if not settled:
            return None
        if check.forgotten > _LOST:
            return Alarm.COLLAPSED
        return next((alarm for alarm in slow if self.seen[alarm] >= _PATIENCE), None)

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on with it."""
        return {"losses": list(self.losses), "seen": dict(self.seen)}

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self.seen = dict(state["seen"])
        self.losses = deque(state["losses"], maxlen=_RECENT)
