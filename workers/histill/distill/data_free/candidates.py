"""The students among which the best is kept, judged on the same samples."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from histill.distill.data_free.held import mean, simple

if TYPE_CHECKING:
    from torch import Tensor, nn

    from histill.distill.data_free.held import Held

_LAST = 4  # states, besides the best yet


@dataclass(frozen=True, eq=False)
class Candidate:
    """A student that may be kept.

    Attributes:
        step: That it had reached.
        weights: Its state.
    """

    step: int
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class Comparison:
    """Agreement with the teachers, in [0, 1], by kind of held samples.

    Attributes:
        now: Of the student.
        best: Of the best yet; empty where there is none.
    """

    now: dict[str, float]
    best: dict[str, float]

    @property
    def forgotten(self) -> float:
        """Agreement on simple samples that the best has, and the student has not."""
        return max(0.0, simple(self.best) - simple(self.now))

    @property
    def better(self) -> bool:
        """Whether the student is at least as good, over all samples."""
        return mean(self.now) >= mean(self.best)


class Candidates:
    """The best student yet, and the last few.

    Held samples change as the run goes on, so that scores of different times say nothing of
    each other: students are compared on the samples that are held at the time.

    Args:
        student: Of the kind that is compared.
        held: The samples.
    """

    def __init__(self, student: nn.Module, held: Held) -> None:
        self._net, self._held = copy.deepcopy(student), held
        self.best: Candidate | None = None
        self.last: list[Candidate] = []

    def compared(self, student: nn.Module) -> Comparison:
        """A student beside the best yet, on what is held now."""
        return Comparison(self._held.agreement(student), self._agreement(self.best))

    def consider(self, step: int, student: nn.Module, found: Comparison) -> None:
        """Takes a student among the last, and as the best where it is."""
        weights = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        one = Candidate(step, weights)
        if found.better:
            self.best = one
        self.last = [*self.last, one][-_LAST:]

    def chosen(self) -> tuple[float, Candidate] | None:
        """The one that agrees best on what is held now, with its score; of equals the later."""
        every = [*([self.best] if self.best else []), *self.last]
        scored = [(mean(self._agreement(one)), one) for one in every]
        return max(scored, key=lambda pair: (pair[0], pair[1].step)) if scored else None

    def _agreement(self, one: Candidate | None) -> dict[str, float]:
        if one is None:
            return {}
        self._net.load_state_dict(one.weights)
        return self._held.agreement(self._net)

    def state(self) -> dict[str, Any]:
        """All of it; weights are shared, since nobody changes them."""
        return {
            "best": vars(self.best) if self.best else None,
            "last": [vars(one) for one in self.last],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Becomes what a state says."""
        self.best = Candidate(**state["best"]) if state["best"] else None
        self.last = [Candidate(**one) for one in state["last"]]
