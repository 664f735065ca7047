"""The students among which the best is kept, judged on the same samples."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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

    def forgotten(self, now: float) -> float:
        """Agreement on simple samples that the best had, and the student now has not.

        Args:
            now: The student's agreement on the simple samples held now.

        Returns:
            In [0, 1].
        """
        if self.best is None:
            return 0.0
        self._net.load_state_dict(self.best.weights)
        return max(0.0, self._held.simple(self._net) - now)

    def consider(self, step: int, student: nn.Module) -> None:
        """Takes a student among the last, and as the best where it is."""
        weights = {name: tensor.clone() for name, tensor in student.state_dict().items()}
        one = Candidate(step, weights)
        if self.best is None or self._score(one) >= self._score(self.best):
            self.best = one
        self.last = [*self.last, one][-_LAST:]

    def chosen(self) -> tuple[float, Candidate] | None:
        """The one that agrees best on what is held now, with its score; of equals the later."""
        every = [*([self.best] if self.best else []), *self.last]
        scored = [(self._score(one), one) for one in every]
        return max(scored, key=lambda pair: (pair[0], pair[1].step)) if scored else None

    def _score(self, one: Candidate) -> float:
        self._net.load_state_dict(one.weights)
        return self._held.criterion(self._net)

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
